# Sequel with its defaults, and with its named prepared statements.
require 'sequel'
require_relative 'tap'

def database(**settings)
  Sequel.connect({ adapter: 'postgres', host: '127.0.0.1', port: ENV.fetch('PGPORT'), user: 'app', database: 'app',
                   sslmode: 'disable', max_connections: SESSION ? 2 : 8, pool_timeout: 30 }.merge(settings))
end

db = database
run_own({
  'datasets and transactions' => lambda {
    db[:item].import(%i[id name], Array.new(200) { |n| [n, "name #{n}"] })
    db.transaction(rollback: :always) { db[:item].insert(id: 1000, name: 'lost') }
    db.transaction(isolation: :serializable) { db[:item].insert(id: 1001, name: 'kept') }
    equal(db[:item].where(id: 1000..1001).select_map(:name), ['kept'])
    refused(Sequel::UniqueConstraintViolation) { db[:item].insert(id: 1, name: 'again') }
  },

  'prepared statements of threads' => lambda {
    by_id = db[:item].where(id: :$id).prepare(:first, :item_by_id)
    Array.new(SESSION ? 3 : 20) do |t|
      Thread.new { 50.times { |n| equal(by_id.call(id: (n + t) % 200)[:name], "name #{(n + t) % 200}") } }
    end.each(&:value)
  },

  'cursor' => lambda {
    equal(db[:item].order(:id).use_cursor(rows_per_fetch: 10).map(:id).size, 201)
    equal(db[:item].order(:id).use_cursor(hold: true, rows_per_fetch: 10).map(:id).size, 201)
  },

  'search path' => lambda {
    tenants = %w[tenant_a tenant_b].to_h { |name| [name, database(search_path: name, max_connections: 1)] }
    10.times { tenants.each { |name, tenant| equal(tenant.get(Sequel.function(:current_schema)), name) } }
    tenants.each_value(&:disconnect)
  },

  'listen' => lambda {
    seen = nil
    listener = Thread.new { db.listen('news', timeout: 30) { |_, _, payload| seen = payload } }
    await { !db[:pg_stat_activity].where(Sequel.like(:query, 'LISTEN%')).empty? }
    await do
      db.notify('news', payload: 'first')
      !seen.nil?
    end
    listener.value
    equal(seen, 'first')
  },

  'copy' => lambda {
    db.copy_into(:copied, data: Array.new(1000) { |n| "#{n}\tname\n" })
    equal(db.copy_table(db[:copied]).lines.size, 1000)
  }
})
