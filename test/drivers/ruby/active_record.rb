# ActiveRecord with its defaults: prepared statements, advisory locks in migrations, settings at connect.
require 'active_record'
require_relative 'tap'

ADDRESS = { adapter: 'postgresql', host: '127.0.0.1', port: ENV.fetch('PGPORT'), username: 'app', database: 'app',
            sslmode: 'disable', pool: SESSION ? 3 : 8, checkout_timeout: 30 }.freeze

class CreatePeople < ActiveRecord::Migration[6.0]
  def change
    create_table(:people) { |t| t.string :name, null: false, index: true }
  end
end

class Person < ActiveRecord::Base
end

def connection
  ActiveRecord::Base.connection
end

def reconnect(**settings)
  ActiveRecord::Base.establish_connection(**ADDRESS, **settings)
end

# What `rails db:migrate` does: all of it under a session advisory lock, which has to be released in its own session.
def migrate(version, migration)
  key = 4_157_123
  equal(connection.get_advisory_lock(key), true)
  ActiveRecord::SchemaMigration.create_table
  migration.migrate(:up)
  ActiveRecord::SchemaMigration.create!(version: version)
  equal(connection.release_advisory_lock(key), true)
end

reconnect
run_own({
  'migration under an advisory lock' => lambda {
    ActiveRecord::Migration.verbose = false
    equal(connection.supports_advisory_locks?, true)
    migrate('1', CreatePeople)
    connection.remove_index(:people, :name)
    connection.add_index(:people, :name, algorithm: :concurrently)
    equal(connection.tables.include?('people'), true)
  },

  'prepared statements' => lambda {
    equal(connection.prepared_statements, true)
    Person.insert_all!(Array.new(200) { |n| { name: "name #{n}" } })
    threads = Array.new(SESSION ? 3 : 20) do |t|
      Thread.new do
        50.times do |n|
          Person.connection_pool.with_connection do
            Person.transaction { equal(Person.find_by(name: "name #{(n + t) % 200}").name, "name #{(n + t) % 200}") }
          end
        end
      end
    end
    threads.each(&:value)
  },

  'more statements than statement_limit' => lambda {
    reconnect(statement_limit: 5) # beyond it the oldest is ended by SQL's DEALLOCATE
    3.times { |round| 20.times { |n| equal(Person.where(id: n).limit(n + 1).offset(round).count, n.zero? || round.positive? ? 0 : 1) } }
    reconnect
  },

  'transactions and savepoints' => lambda {
    Person.transaction do
      Person.create!(name: 'kept')
      Person.transaction(requires_new: true) do
        Person.create!(name: 'lost')
        raise ActiveRecord::Rollback
      end
    end
    equal(Person.where(name: %w[kept lost]).pluck(:name), ['kept'])
    refused(ActiveRecord::NotNullViolation) { Person.create!(name: nil) }
    equal(Person.where(name: 'kept').count, 1)
  },

  'variables of database.yml' => lambda {
    reconnect(variables: { statement_timeout: '77s', lock_timeout: '66s' }, schema_search_path: 'tenant_a, public')
    10.times do
      equal(connection.select_value('SHOW statement_timeout'), '77s')
      equal(connection.select_value('SELECT current_schema()'), 'tenant_a')
    end
    reconnect
    equal(connection.select_value('SHOW statement_timeout'), '0')
  },

  'schema change under a prepared statement' => lambda {
    person = Person.find_by!(name: 'kept')
    connection.add_column(:people, :colour, :string, default: 'red')
    equal(Person.find(person.id).name, 'kept')
    Person.reset_column_information
    equal(Person.find(person.id).colour, 'red')
  },

  'server restart' => lambda {
    2.times { equal(Person.find_by!(name: 'name 7').name, 'name 7') }
    restart_server
    begin
      equal(Person.find_by!(name: 'name 7').name, 'name 7')
    rescue ActiveRecord::StatementInvalid, ActiveRecord::ConnectionNotEstablished
      raise unless SESSION

      connection.reconnect!
      equal(Person.find_by!(name: 'name 7').name, 'name 7')
    end
  },

  'settings for other poolers' => lambda {
    reconnect(prepared_statements: false, advisory_locks: false)
    10.times { |n| equal(Person.find_by!(name: "name #{n}").name, "name #{n}") }
  }
})
