// pgx v4 with its defaults: every query is prepared under a name and kept (statement_cache_mode=prepare).
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tap"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

var background = context.Background()

func open(settings string) *pgx.Conn {
	conn, err := pgx.Connect(background, tap.Address(settings))
	tap.Must(err)
	return conn
}

func run(conn *pgx.Conn, text string, arguments ...interface{}) {
	_, err := conn.Exec(background, text, arguments...)
	tap.Must(err)
}

func number(conn *pgx.Conn, text string, arguments ...interface{}) (result int) {
	tap.Must(conn.QueryRow(background, text, arguments...).Scan(&result))
	return result
}

func text(conn *pgx.Conn, query string, arguments ...interface{}) string {
	var result *string
	tap.Must(conn.QueryRow(background, query, arguments...).Scan(&result))
	if result == nil {
		return ""
	}
	return *result
}

func truth(conn *pgx.Conn, query string, arguments ...interface{}) (result bool) {
	tap.Must(conn.QueryRow(background, query, arguments...).Scan(&result))
	return result
}

func refused(err error, code string) {
	var problem *pgconn.PgError
	if !errors.As(err, &problem) {
		panic(fmt.Sprintf("%v where %s is due", err, code))
	}
	tap.Equal(problem.Code, code)
}

func parametrised(conn *pgx.Conn) {
	var a int
	var b, e string
	var c []byte
	var d *int
	var f []int32
	long := strings.Repeat("x", 300000)
	tap.Must(conn.QueryRow(background, "SELECT $1::int, $2::text, $3::bytea, $4::int, $5::text, $6::int[]",
		7, "täxt", []byte{0, 1}, nil, long, []int32{1, 2}).Scan(&a, &b, &c, &d, &e, &f))
	tap.Equal(fmt.Sprint(a, b, c, d == nil, e == long, f), fmt.Sprint(7, "täxt", []byte{0, 1}, true, true, []int32{1, 2}))
}

func preparedOverTransactions() {
	conn := open("")
	defer conn.Close(background)
	var others []*pgx.Conn
	for i := 0; i < tap.Others(); i++ {
		others = append(others, open(""))
	}
	_, err := conn.Prepare(background, "plus", "SELECT $1::int + 1, pg_backend_pid()")
	tap.Must(err)
	servers := map[int]bool{}
	for n := 0; n < 20; n++ {
		// the others take all servers, then one gives up its own: only that is free
		for _, other := range others {
			run(other, "BEGIN")
		}
		if len(others) > 0 {
			run(others[n%len(others)], "COMMIT")
		}
		transaction, err := conn.Begin(background)
		tap.Must(err)
		var next, server int
		tap.Must(transaction.QueryRow(background, "plus", n).Scan(&next, &server))
		tap.Equal(next, n+1)
		servers[server] = true
		tap.Must(transaction.Commit(background))
		for i, other := range others {
			run(other, "COMMIT")
			tap.Equal(number(other, "SELECT $1::int + 2", i), i+2) // the cache of statements
		}
	}
	if tap.Session {
		tap.Equal(len(servers), 1)
	} else {
		tap.Equal(len(servers), len(others))
	}
	for _, other := range others {
		other.Close(background)
	}
}

func preparedOverRestart() {
	conn := open("")
	_, err := conn.Prepare(background, "twice", "SELECT $1::int * 2")
	tap.Must(err)
	tap.Equal(number(conn, "twice", 4), 8)
	tap.RestartServer()
	if tap.Session {
		if conn.QueryRow(background, "twice", 4).Scan(new(int)) == nil {
			panic("a session outlived its server")
		}
		conn = open("")
		_, err := conn.Prepare(background, "twice", "SELECT $1::int * 2")
		tap.Must(err)
	}
	for n := 0; n < 10; n++ {
		tap.Equal(number(conn, "twice", n), n*2)
	}
	conn.Close(background)
}

func commitAndRollback() {
	conn := open("")
	defer conn.Close(background)
	run(conn, "DELETE FROM item")
	for id, end := range []func(pgx.Tx, context.Context) error{pgx.Tx.Commit, pgx.Tx.Rollback} {
		transaction, err := conn.BeginTx(background, pgx.TxOptions{IsoLevel: pgx.Serializable})
		tap.Must(err)
		_, err = transaction.Exec(background, "INSERT INTO item VALUES ($1, 'x')", id)
		tap.Must(err)
		inner, err := transaction.Begin(background) // a savepoint
		tap.Must(err)
		_, err = inner.Exec(background, "INSERT INTO item VALUES (3, 'lost')")
		tap.Must(err)
		tap.Must(inner.Rollback(background))
		tap.Must(end(transaction, background))
	}
	tap.Equal(text(conn, "SELECT string_agg(id::text, ',') FROM item"), "0")
}

func errorAndRecovery() {
	conn := open("")
	defer conn.Close(background)
	for n := 0; n < 3; n++ {
		refused(conn.QueryRow(background, "SELECT 1 / $1::int", 0).Scan(new(int)), "22012")
	}
	transaction, err := conn.Begin(background)
	tap.Must(err)
	_, err = transaction.Exec(background, "SELECT nonsense")
	refused(err, "42703")
	_, err = transaction.Exec(background, "SELECT 1")
	refused(err, "25P02")
	tap.Must(transaction.Rollback(background))
	tap.Equal(number(conn, "SELECT 1 / $1::int", 1), 1)
}

func copyInAndOut() {
	conn := open("")
	defer conn.Close(background)
	var rows [][]interface{}
	var expected, out bytes.Buffer
	for n := 0; n < 5000; n++ {
		rows = append(rows, []interface{}{n, fmt.Sprint("name ", n)})
		fmt.Fprintf(&expected, "%d\tname %d\n", n, n)
	}
	count, err := conn.CopyFrom(background, pgx.Identifier{"copied"}, []string{"id", "name"}, pgx.CopyFromRows(rows))
	tap.Must(err)
	tap.Equal(count, int64(5000))
	_, err = conn.PgConn().CopyTo(background, &out, "COPY (SELECT * FROM copied ORDER BY id) TO STDOUT")
	tap.Must(err)
	tap.Equal(out.String(), expected.String())
	_, err = conn.PgConn().CopyFrom(background, strings.NewReader("no number\tx\n"), "COPY copied FROM STDIN")
	refused(err, "22P02")
	tap.Equal(number(conn, "SELECT count(*) FROM copied"), 5000)
}

func cancels() {
	conn, other := open(""), open("")
	defer conn.Close(background)
	defer other.Close(background)
	go func() {
		for number(other, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(50)'") == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		tap.Must(conn.PgConn().CancelRequest(background))
	}()
	_, err := conn.Exec(background, "SELECT pg_sleep(50)")
	refused(err, "57014")
	tap.Equal(number(conn, "SELECT 1"), 1)
}

func setLocal() {
	conn := open("")
	defer conn.Close(background)
	run(conn, "BEGIN")
	run(conn, "SET LOCAL work_mem = '7MB'")
	tap.Equal(text(conn, "SHOW work_mem"), "7MB")
	run(conn, "COMMIT")
	tap.Equal(text(conn, "SHOW work_mem"), "4MB")
}

func setReported() {
	one, two := open(""), open("")
	defer one.Close(background)
	defer two.Close(background)
	run(one, "SET TimeZone = 'Asia/Tokyo'")
	run(two, "SET TimeZone = 'America/Lima'")
	for n := 0; n < 10; n++ {
		tap.Equal(text(one, "SHOW TimeZone"), "Asia/Tokyo")
		tap.Equal(text(two, "SHOW TimeZone"), "America/Lima")
	}
	tap.Equal(one.PgConn().ParameterStatus("TimeZone"), "Asia/Tokyo")
}

func setOther() {
	one, two := open(""), open("")
	defer one.Close(background)
	defer two.Close(background)
	run(one, "SET search_path = tenant_a")
	run(one, "SET app.tenant = 'a'")
	run(two, "SELECT set_config('search_path', 'tenant_b', false)")
	for n := 0; n < 10; n++ {
		tap.Equal(text(one, "SELECT current_schema() || current_setting('app.tenant')"), "tenant_aa")
		tap.Equal(text(two, "SELECT current_schema() || coalesce(current_setting('app.tenant', true), '')"), "tenant_b")
	}
}

func startupOptions() {
	// what pgx does not know itself it sends in the startup packet
	one, two := open("statement_timeout=77000 search_path=tenant_b options='-c lock_timeout=66s'"), open("")
	defer one.Close(background)
	defer two.Close(background)
	for n := 0; n < 10; n++ {
		tap.Equal(text(one, "SHOW statement_timeout"), "77s")
		tap.Equal(text(one, "SHOW lock_timeout"), "66s")
		tap.Equal(text(one, "SELECT current_schema()"), "tenant_b")
		tap.Equal(text(two, "SHOW statement_timeout"), "0")
	}
}

func sessionState() {
	one, two := open(""), open("")
	defer one.Close(background)
	defer two.Close(background)
	run(one, "CREATE TEMP TABLE mine AS SELECT 1 AS n")
	tap.Equal(truth(one, "SELECT pg_try_advisory_lock($1)", 42), true)
	run(one, "DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)")
	for n := 0; n < 10; n++ {
		tap.Equal(number(one, "SELECT n FROM mine"), 1)
		tap.Equal(truth(two, "SELECT pg_try_advisory_lock($1)", 42), false)
	}
	tap.Equal(number(one, "FETCH NEXT FROM held"), 1)
	tap.Equal(truth(one, "SELECT pg_advisory_unlock($1)", 42), true)
	tap.Equal(truth(two, "SELECT pg_try_advisory_lock($1)", 42), true)
}

func listenAndNotify() {
	one, two := open(""), open("")
	defer one.Close(background)
	defer two.Close(background)
	run(one, "LISTEN news")
	run(two, "NOTIFY news, 'first'")
	run(two, "SELECT pg_notify($1, $2)", "news", "second")
	for _, expected := range []string{"first", "second"} {
		notification, err := one.WaitForNotification(background)
		tap.Must(err)
		tap.Equal(notification.Payload, expected)
	}
}

// A batch is a pipeline with one Sync.
func pipeline() {
	conn := open("")
	defer conn.Close(background)
	batch := &pgx.Batch{}
	for n := 0; n < 200; n++ {
		batch.Queue("SELECT $1::int", n)
	}
	results := conn.SendBatch(background, batch)
	for n := 0; n < 200; n++ {
		var result int
		tap.Must(results.QueryRow().Scan(&result))
		tap.Equal(result, n)
	}
	tap.Must(results.Close())
	batch = &pgx.Batch{}
	batch.Queue("SELECT 1")
	batch.Queue("SELECT 1 / $1::int", 0)
	batch.Queue("SELECT 3")
	results = conn.SendBatch(background, batch)
	tap.Must(results.QueryRow().Scan(new(int)))
	refused(results.QueryRow().Scan(new(int)), "22012")
	results.Close()
	tap.Equal(number(conn, "SELECT 4"), 4)
}

func largeObject() {
	conn := open("")
	defer conn.Close(background)
	data := bytes.Repeat([]byte("abc"), 100000)
	transaction, err := conn.Begin(background)
	tap.Must(err)
	objects := transaction.LargeObjects()
	id, err := objects.Create(background, 0)
	tap.Must(err)
	object, err := objects.Open(background, id, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
	tap.Must(err)
	_, err = object.Write(data)
	tap.Must(err)
	_, err = object.Seek(3, 0)
	tap.Must(err)
	seen := make([]byte, 5)
	_, err = object.Read(seen)
	tap.Must(err)
	tap.Equal(string(seen), "abcab")
	tap.Must(transaction.Commit(background))
	tap.Equal(number(conn, "SELECT length(lo_get($1))", id), 300000)
}

func work(client int) {
	conn := open(fmt.Sprintf("application_name='client %d'", client))
	defer conn.Close(background)
	run(conn, fmt.Sprintf("SET app.client = '%d'", client))
	for n := 0; n < tap.Transactions; n++ {
		transaction, err := conn.Begin(background)
		tap.Must(err)
		_, err = transaction.Exec(background, "INSERT INTO seen VALUES ($1, $2)", client, n)
		tap.Must(err)
		var row string
		tap.Must(transaction.QueryRow(background, "SELECT concat_ws(' ', $1::int, $2::int, current_setting('application_name'), "+
			"current_setting('app.client'), count(*), max(n)) FROM seen WHERE client = $1", client, n).Scan(&row))
		tap.Equal(row, fmt.Sprintf("%d %d client %d %d %d %d", client, n, client, client, n+1, n))
		tap.Must(transaction.Commit(background))
	}
}

func pool() {
	config, err := pgxpool.ParseConfig(tap.Address("pool_max_conns=3"))
	tap.Must(err)
	pool, err := pgxpool.ConnectConfig(background, config)
	tap.Must(err)
	defer pool.Close()
	tap.Concurrently(func(client int) {
		for n := 0; n < 20; n++ {
			var result int
			tap.Must(pool.QueryRow(background, "SELECT $1::int + 1", n).Scan(&result))
			tap.Equal(result, n+1)
		}
	})
}

// The settings that other poolers made people choose go on working.
func settings() {
	for _, mode := range []string{"statement_cache_mode=describe", "statement_cache_capacity=0", "statement_cache_capacity=2"} {
		conn := open(mode)
		for n := 0; n < 10; n++ {
			tap.Equal(number(conn, fmt.Sprintf("SELECT $1::int + %d", n), 1), n+1)
		}
		tap.Equal(number(conn, "SELECT $1::int", pgx.QuerySimpleProtocol(true), 5), 5)
		conn.Close(background)
	}
}

func schemaChange() {
	one, two := open(""), open("")
	defer one.Close(background)
	defer two.Close(background)
	run(one, "CREATE TABLE changing (a int)")
	run(one, "INSERT INTO changing VALUES (1)")
	tap.Equal(number(two, "SELECT * FROM changing"), 1)
	run(one, "ALTER TABLE changing ALTER a TYPE text")
	// PostgreSQL refuses once, and pgx prepares anew; here it may be spared that
	var result string
	if two.QueryRow(background, "SELECT * FROM changing").Scan(&result) != nil {
		tap.Equal(text(two, "SELECT * FROM changing"), "1")
	}
}

func main() {
	one := func(work func(conn *pgx.Conn)) func() {
		return func() {
			conn := open("")
			defer conn.Close(background)
			work(conn)
		}
	}
	tap.Run(map[string]func(){
		"connect": one(func(conn *pgx.Conn) { tap.Must(conn.Ping(background)) }),
		"simple query": one(func(conn *pgx.Conn) {
			results, err := conn.PgConn().Exec(background, "SELECT 1; SELECT 2").ReadAll()
			tap.Must(err)
			tap.Equal(len(results), 2)
		}),
		"parametrised query":                       one(parametrised),
		"prepared statement over transactions":     preparedOverTransactions,
		"prepared statement over a server restart": preparedOverRestart,
		"commit and rollback":                      commitAndRollback,
		"error and recovery":                       errorAndRecovery,
		"copy in and out":                          copyInAndOut,
		"cancel":                                   cancels,
		"set local":                                setLocal,
		"set of a reported parameter":              setReported,
		"set of another parameter":                 setOther,
		"startup options":                          startupOptions,
		"session state that pins":                  sessionState,
		"listen and notify":                        listenAndNotify,
		"pipeline":                                 pipeline,
		"large object":                             largeObject,
		"20 clients keep to themselves":            func() { tap.Concurrently(work) },
		"pool":                                     pool,
		"settings for other poolers":               settings,
		"schema change under a prepared statement": schemaChange,
	}, "pool", "settings for other poolers", "schema change under a prepared statement")
}
