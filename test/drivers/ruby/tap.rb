# tap: what the Ruby drivers share: cases in their order, verdicts as TAP, the restart of PostgreSQL.
require 'socket'
require 'timeout'

SESSION = ENV.fetch('PGSTAGE_TEST_MODE') == 'session'
OTHERS = SESSION ? 0 : 4 # who take all servers but one, so that a client has to go to another server
CLIENTS = 20
TRANSACTIONS = 100

# Raised by a case for which the driver has no means; says what is missing.
class Skip < StandardError; end

def skip(reason)
  raise Skip, reason
end

def equal(seen, expected)
  raise "#{seen.inspect} instead of #{expected.inspect}" unless seen == expected
end

def refused(kind)
  yield
rescue kind
  nil
else
  raise "no #{kind}"
end

def restart_server
  Socket.tcp('127.0.0.1', Integer(ENV.fetch('PGSTAGE_TEST_CONTROL'))) do |control|
    control.write("restart\n")
    equal(control.gets, "done\n")
  end
end

# Waits until the block holds.
def await
  Timeout.timeout(30) { sleep 0.005 until yield }
end

def verdicts(cases, names)
  $stdout.sync = true
  failed = 0
  names.each.with_index(1) do |name, number|
    Timeout.timeout(60) { cases.fetch(name).call }
    puts "ok #{number} - #{name}"
  rescue Skip => e
    puts "ok #{number} - #{name} # SKIP #{e.message}"
  rescue Exception => e
    failed += 1
    puts "not ok #{number} - #{name}", e.full_message(highlight: false)
  end
  exit!(failed.zero? ? 0 : 1)
end

# `cases`: a block for each name of the list.
def run(cases)
  verdicts(cases, ENV.fetch('PGSTAGE_TEST_CASES').split(';'))
end

# For what stands on a driver that is tested by itself: cases of its own, in their order.
def run_own(cases)
  verdicts(cases, cases.keys)
end
