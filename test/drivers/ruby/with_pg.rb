# Ruby's pg.
require 'pg'
require_relative 'tap'

def connect(**settings)
  PG.connect(host: '127.0.0.1', sslmode: 'disable', **settings)
end

# Gives as many connections as the block has parameters, and closes them.
def with_conns(*settings, &work)
  conns = Array.new(work.arity) { |i| connect(**(settings[i] || {})) }
  work.call(*conns)
ensure
  conns&.each(&:close)
end

def value(conn, sql, arguments = nil)
  (arguments ? conn.exec_params(sql, arguments) : conn.exec(sql)).getvalue(0, 0)
end

def work(number)
  with_conns({ application_name: "client #{number}" }) do |conn|
    conn.exec("SET app.client = '#{number}'")
    conn.prepare('look', "SELECT concat_ws(' ', $1::int, $2::int, current_setting('application_name'),
                          current_setting('app.client'), count(*), max(n)) FROM seen WHERE client = $1")
    TRANSACTIONS.times do |n|
      conn.transaction do
        conn.exec_params('INSERT INTO seen VALUES ($1, $2)', [number, n])
        equal(conn.exec_prepared('look', [number, n]).getvalue(0, 0),
              "#{number} #{n} client #{number} #{number} #{n + 1} #{n}")
      end
    end
  end
end

CASES = {
  'connect' => -> { with_conns { |conn| equal(conn.status, PG::CONNECTION_OK) } },

  'simple query' => lambda {
    with_conns { |conn| equal(conn.exec("SELECT 1, 'two'").values, [%w[1 two]]) }
  },

  'parametrised query' => lambda {
    with_conns do |conn|
      long = 'x' * 300_000
      row = conn.exec_params('SELECT $1::int, $2::text, $3::bytea, $4::int, $5::text',
                             [7, 'täxt', { value: "\0\1", format: 1 }, nil, long]).values[0]
      equal(row, ['7', 'täxt', '\x0001', nil, long])
    end
  },

  'prepared statement over transactions' => lambda {
    conn = connect
    others = Array.new(OTHERS) { connect }
    servers = {}
    conn.prepare('plus', 'SELECT $1::int + 1, pg_backend_pid()')
    20.times do |n|
      # the others take all servers, then one gives up its own: only that is free
      others.each { |other| other.exec('BEGIN') }
      others[n % OTHERS].exec('COMMIT') if OTHERS.positive?
      conn.transaction do
        result, server = conn.exec_prepared('plus', [n]).values[0]
        equal(result, (n + 1).to_s)
        servers[server] = true
      end
      others.each.with_index { |other, i| other.exec('COMMIT') unless i == n % OTHERS }
    end
    equal(servers.size, SESSION ? 1 : OTHERS)
    [conn, *others].each(&:close)
  },

  'prepared statement over a server restart' => lambda {
    conn = connect
    conn.prepare('twice', 'SELECT $1::int * 2')
    equal(conn.exec_prepared('twice', [4]).getvalue(0, 0), '8')
    restart_server
    if SESSION
      refused(PG::Error) { conn.exec_prepared('twice', [4]) }
      conn = connect
      conn.prepare('twice', 'SELECT $1::int * 2')
    end
    10.times { |n| equal(conn.exec_prepared('twice', [n]).getvalue(0, 0), (n * 2).to_s) }
    conn.close
  },

  'commit and rollback' => lambda {
    with_conns do |conn|
      conn.transaction { conn.exec("INSERT INTO item VALUES (1, 'kept')") }
      refused(ArgumentError) do
        conn.transaction do
          conn.exec("INSERT INTO item VALUES (2, 'lost')")
          raise ArgumentError
        end
      end
      conn.exec("BEGIN; SAVEPOINT s; INSERT INTO item VALUES (3, 'lost'); ROLLBACK TO s; COMMIT")
      equal(conn.exec('SELECT id FROM item').values, [['1']])
    end
  },

  'error and recovery' => lambda {
    with_conns do |conn|
      conn.prepare('divide', 'SELECT 1 / $1::int')
      3.times { refused(PG::DivisionByZero) { conn.exec_prepared('divide', [0]) } }
      conn.exec('BEGIN')
      refused(PG::UndefinedColumn) { conn.exec('SELECT nonsense') }
      refused(PG::InFailedSqlTransaction) { conn.exec('SELECT 1') }
      conn.exec('ROLLBACK')
      # names: in use, and unknown
      refused(PG::DuplicatePstatement) { conn.prepare('divide', 'SELECT 2') }
      refused(PG::InvalidSqlStatementName) { conn.exec_prepared('nobody', []) }
      conn.exec('DEALLOCATE divide')
      conn.prepare('divide', 'SELECT 2')
      equal(conn.exec_prepared('divide', []).getvalue(0, 0), '2')
    end
  },

  'copy in and out' => lambda {
    with_conns do |conn|
      lines = Array.new(5000) { |n| "#{n}\tname #{n}\n" }
      conn.copy_data('COPY copied FROM STDIN') { lines.each { |line| conn.put_copy_data(line) } }
      out = []
      conn.copy_data('COPY (SELECT * FROM copied ORDER BY id) TO STDOUT') do
        while (line = conn.get_copy_data) do out << line end
      end
      equal(out, lines)
      refused(PG::InvalidTextRepresentation) do
        conn.copy_data('COPY copied FROM STDIN') { conn.put_copy_data("no number\tx\n") }
      end
      refused(PG::QueryCanceled) do # CopyFail
        conn.copy_data('COPY copied FROM STDIN') { raise PG::QueryCanceled, 'on our side' }
      end
      equal(value(conn, 'SELECT count(*) FROM copied'), '5000')
    end
  },

  'cancel' => lambda {
    with_conns do |conn, other|
      conn.send_query('SELECT pg_sleep(50)')
      await { value(other, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(50)'") == '1' }
      equal(conn.cancel, nil)
      refused(PG::QueryCanceled) { conn.get_last_result }
      equal(value(conn, 'SELECT 1'), '1')
    end
  },

  'set local' => lambda {
    with_conns do |conn|
      conn.transaction do
        conn.exec("SET LOCAL work_mem = '7MB'")
        equal(value(conn, 'SHOW work_mem'), '7MB')
      end
      equal(value(conn, 'SHOW work_mem'), '4MB')
    end
  },

  'set of a reported parameter' => lambda {
    with_conns do |one, two|
      one.exec("SET TimeZone = 'Asia/Tokyo'")
      two.exec("SET TimeZone = 'America/Lima'")
      10.times do
        equal(value(one, 'SHOW TimeZone'), 'Asia/Tokyo')
        equal(value(two, 'SHOW TimeZone'), 'America/Lima')
      end
      equal(one.parameter_status('TimeZone'), 'Asia/Tokyo')
    end
  },

  'set of another parameter' => lambda {
    with_conns do |one, two|
      one.exec('SET search_path = tenant_a')
      one.exec("SET app.tenant = 'a'")
      two.exec("SELECT set_config('search_path', 'tenant_b', false)")
      10.times do
        equal(value(one, "SELECT current_schema() || current_setting('app.tenant')"), 'tenant_aa')
        equal(value(two, "SELECT current_schema() || coalesce(current_setting('app.tenant', true), '')"), 'tenant_b')
      end
    end
  },

  'startup options' => lambda {
    with_conns({ options: '-c statement_timeout=77s -c search_path=tenant_b' }) do |one, two|
      10.times do
        equal(value(one, 'SHOW statement_timeout'), '77s')
        equal(value(one, 'SELECT current_schema()'), 'tenant_b')
        equal(value(two, 'SHOW statement_timeout'), '0')
      end
    end
  },

  'session state that pins' => lambda {
    with_conns do |one, two|
      one.exec('CREATE TEMP TABLE mine AS SELECT 1 AS n')
      equal(value(one, 'SELECT pg_try_advisory_lock($1)', [42]), 't')
      one.exec('DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)')
      10.times do
        equal(value(one, 'SELECT n FROM mine'), '1')
        equal(value(two, 'SELECT pg_try_advisory_lock($1)', [42]), 'f')
      end
      equal(one.exec('FETCH ALL FROM held').ntuples, 3)
      equal(value(one, 'SELECT pg_advisory_unlock($1)', [42]), 't')
      equal(value(two, 'SELECT pg_try_advisory_lock($1)', [42]), 't')
    end
  },

  'listen and notify' => lambda {
    with_conns do |one, two|
      one.exec('LISTEN news')
      two.exec("NOTIFY news, 'first'")
      two.exec_params('SELECT pg_notify($1, $2)', %w[news second])
      %w[first second].each do |expected|
        equal(one.wait_for_notify(30) { |_, _, payload| equal(payload, expected) }, 'news')
      end
    end
  },

  'pipeline' => lambda {
    with_conns do |conn|
      conn.enter_pipeline_mode
      100.times { |n| conn.send_query_params('SELECT $1::int', [n]) }
      conn.send_query_params('SELECT 1 / $1::int', [0])
      conn.send_query_params('SELECT 2', [])
      conn.pipeline_sync
      100.times do |n|
        equal(conn.get_result.getvalue(0, 0), n.to_s)
        equal(conn.get_result, nil)
      end
      refused(PG::DivisionByZero) { conn.get_result.check }
      equal(conn.get_result, nil)
      equal(conn.get_result.result_status, PG::PGRES_PIPELINE_ABORTED)
      equal(conn.get_result, nil)
      equal(conn.get_result.result_status, PG::PGRES_PIPELINE_SYNC)
      conn.exit_pipeline_mode
      equal(value(conn, 'SELECT 4'), '4')
    end
  },

  'large object' => lambda {
    with_conns do |conn|
      data = 'abc' * 100_000
      conn.transaction do
        id = conn.lo_creat
        object = conn.lo_open(id, PG::INV_READ | PG::INV_WRITE)
        equal(conn.lo_write(object, data), 300_000)
        conn.lo_lseek(object, 299_997, PG::SEEK_SET)
        equal(conn.lo_read(object, 100), 'abc')
        conn.lo_close(object)
        conn.lo_unlink(id)
      end
    end
  },

  '20 clients keep to themselves' => lambda {
    Array.new(CLIENTS) { |number| Thread.new { work(number) } }.each(&:value)
  }
}.freeze

run(CASES)
