// lib/pq by database/sql: parameters go by the unnamed statement, Parse and Bind in two batches.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"tap"

	"github.com/lib/pq"
)

var background = context.Background()

// open gives a connection of its own, not a pool.
func open(settings string) *sql.Conn {
	pool, err := sql.Open("postgres", tap.Address(settings))
	tap.Must(err)
	pool.SetMaxIdleConns(0) // closing the connection closes its socket
	conn, err := pool.Conn(background)
	tap.Must(err)
	return conn
}

func run(conn *sql.Conn, text string, arguments ...interface{}) {
	_, err := conn.ExecContext(background, text, arguments...)
	tap.Must(err)
}

func number(conn *sql.Conn, text string, arguments ...interface{}) (result int) {
	tap.Must(conn.QueryRowContext(background, text, arguments...).Scan(&result))
	return result
}

func text(conn *sql.Conn, query string, arguments ...interface{}) string {
	var result sql.NullString
	tap.Must(conn.QueryRowContext(background, query, arguments...).Scan(&result))
	return result.String
}

func refused(err error, code pq.ErrorCode) {
	problem, ok := err.(*pq.Error)
	if !ok {
		panic(fmt.Sprintf("%v where %s is due", err, code))
	}
	tap.Equal(problem.Code, code)
}

func parametrised(conn *sql.Conn) {
	var a int
	var b, e string
	var c []byte
	var d sql.NullInt64
	var f pq.Int64Array
	long := strings.Repeat("x", 300000)
	tap.Must(conn.QueryRowContext(background, "SELECT $1::int, $2::text, $3::bytea, $4::int, $5::text, $6::int[]",
		7, "täxt", []byte{0, 1}, nil, long, pq.Array([]int64{1, 2})).Scan(&a, &b, &c, &d, &e, &f))
	tap.Equal(fmt.Sprint(a, b, c, d.Valid, e == long, f), fmt.Sprint(7, "täxt", []byte{0, 1}, false, true, []int64{1, 2}))
}

func preparedOverTransactions() {
	conn := open("")
	defer conn.Close()
	var others []*sql.Conn
	for i := 0; i < tap.Others(); i++ {
		others = append(others, open(""))
	}
	plus, err := conn.PrepareContext(background, "SELECT $1::int + 1, pg_backend_pid()")
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
		transaction, err := conn.BeginTx(background, nil)
		tap.Must(err)
		var next, server int
		tap.Must(transaction.Stmt(plus).QueryRow(n).Scan(&next, &server))
		tap.Equal(next, n+1)
		servers[server] = true
		tap.Must(transaction.Commit())
		for _, other := range others {
			run(other, "COMMIT")
		}
	}
	if tap.Session {
		tap.Equal(len(servers), 1)
	} else {
		tap.Equal(len(servers), len(others))
	}
	for _, other := range others {
		other.Close()
	}
}

func preparedOverRestart() {
	pool, err := sql.Open("postgres", tap.Address(""))
	tap.Must(err)
	defer pool.Close()
	pool.SetMaxOpenConns(1)
	twice, err := pool.Prepare("SELECT $1::int * 2")
	tap.Must(err)
	for round := 0; round < 2; round++ {
		for n := 0; n < 10; n++ {
			var result int
			err := twice.QueryRow(n).Scan(&result)
			// in session mode the connection is gone, and database/sql prepares on another one
			if err != nil && tap.Session && round == 1 && n == 0 {
				continue
			}
			tap.Must(err)
			tap.Equal(result, n*2)
		}
		if round == 0 {
			tap.RestartServer()
		}
	}
}

func commitAndRollback() {
	conn := open("")
	defer conn.Close()
	run(conn, "DELETE FROM item")
	for id, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
		transaction, err := conn.BeginTx(background, &sql.TxOptions{Isolation: sql.LevelSerializable})
		tap.Must(err)
		_, err = transaction.Exec("INSERT INTO item VALUES ($1, 'x')", id)
		tap.Must(err)
		_, err = transaction.Exec("SAVEPOINT s; INSERT INTO item VALUES (3, 'lost'); ROLLBACK TO s")
		tap.Must(err)
		tap.Must(end(transaction))
	}
	tap.Equal(text(conn, "SELECT string_agg(id::text, ',') FROM item"), "0")
}

func errorAndRecovery() {
	conn := open("")
	defer conn.Close()
	divide, err := conn.PrepareContext(background, "SELECT 1 / $1::int")
	tap.Must(err)
	for n := 0; n < 3; n++ {
		refused(divide.QueryRow(0).Scan(new(int)), "22012")
		refused(conn.QueryRowContext(background, "SELECT 1 / $1::int", 0).Scan(new(int)), "22012")
	}
	transaction, err := conn.BeginTx(background, nil)
	tap.Must(err)
	_, err = transaction.Exec("SELECT nonsense")
	refused(err, "42703")
	_, err = transaction.Exec("SELECT 1")
	refused(err, "25P02")
	tap.Must(transaction.Rollback())
	tap.Must(divide.QueryRow(1).Scan(new(int)))
}

// lib/pq has COPY FROM only; it is a statement to be prepared in a transaction.
func copyIn() {
	conn := open("")
	defer conn.Close()
	for _, last := range []interface{}{5000, "no number"} {
		transaction, err := conn.BeginTx(background, nil)
		tap.Must(err)
		rows, err := transaction.Prepare(pq.CopyIn("copied", "id", "name"))
		tap.Must(err)
		for n := 0; n < 5000; n++ {
			_, err = rows.Exec(n, fmt.Sprint("name ", n))
			tap.Must(err)
		}
		_, err = rows.Exec(last, "last")
		if err == nil {
			_, err = rows.Exec()
		}
		if last == 5000 {
			tap.Must(err)
			tap.Must(rows.Close())
			tap.Must(transaction.Commit())
		} else {
			refused(err, "22P02")
			tap.Must(transaction.Rollback())
		}
	}
	tap.Equal(number(conn, "SELECT count(*) FROM copied WHERE name = 'last' OR name = 'name ' || id"), 5001)
}

func cancels() {
	conn, other := open(""), open("")
	defer conn.Close()
	defer other.Close()
	ctx, cancel := context.WithCancel(background)
	go func() {
		for number(other, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(50)'") == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	_, err := conn.ExecContext(ctx, "SELECT pg_sleep(50)")
	refused(err, "57014")
	again := open("") // a connection whose context ended is not used again by database/sql
	defer again.Close()
	tap.Equal(number(again, "SELECT 1"), 1)
}

func setLocal() {
	conn := open("")
	defer conn.Close()
	run(conn, "BEGIN")
	run(conn, "SET LOCAL work_mem = '7MB'")
	tap.Equal(text(conn, "SHOW work_mem"), "7MB")
	run(conn, "COMMIT")
	tap.Equal(text(conn, "SHOW work_mem"), "4MB")
}

func setReported() {
	one, two := open(""), open("")
	defer one.Close()
	defer two.Close()
	run(one, "SET TimeZone = 'Asia/Tokyo'")
	run(two, "SET TimeZone = 'America/Lima'")
	for n := 0; n < 10; n++ {
		tap.Equal(text(one, "SHOW TimeZone"), "Asia/Tokyo")
		tap.Equal(text(two, "SHOW TimeZone"), "America/Lima")
	}
}

func setOther() {
	one, two := open(""), open("")
	defer one.Close()
	defer two.Close()
	run(one, "SET search_path = tenant_a")
	run(one, "SET app.tenant = 'a'")
	run(two, "SELECT set_config('search_path', 'tenant_b', false)")
	for n := 0; n < 10; n++ {
		tap.Equal(text(one, "SELECT current_schema() || current_setting('app.tenant')"), "tenant_aa")
		tap.Equal(text(two, "SELECT current_schema() || coalesce(current_setting('app.tenant', true), '')"), "tenant_b")
	}
}

func startupOptions() {
	// what lib/pq does not know itself it sends in the startup packet
	one, two := open("statement_timeout=77000 search_path=tenant_b"), open("")
	defer one.Close()
	defer two.Close()
	for n := 0; n < 10; n++ {
		tap.Equal(text(one, "SHOW statement_timeout"), "77s")
		tap.Equal(text(one, "SELECT current_schema()"), "tenant_b")
		tap.Equal(text(two, "SHOW statement_timeout"), "0")
		tap.Equal(text(two, "SHOW extra_float_digits"), "2") // lib/pq always asks for it
	}
}

func sessionState() {
	one, two := open(""), open("")
	defer one.Close()
	defer two.Close()
	run(one, "CREATE TEMP TABLE mine AS SELECT 1 AS n")
	tap.Equal(text(one, "SELECT pg_try_advisory_lock($1)", 42), "true")
	run(one, "DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 3)")
	for n := 0; n < 10; n++ {
		tap.Equal(number(one, "SELECT n FROM mine"), 1)
		tap.Equal(text(two, "SELECT pg_try_advisory_lock($1)", 42), "false")
	}
	tap.Equal(number(one, "FETCH NEXT FROM held"), 1)
	tap.Equal(text(one, "SELECT pg_advisory_unlock($1)", 42), "true")
	tap.Equal(text(two, "SELECT pg_try_advisory_lock($1)", 42), "true")
}

func listenAndNotify() {
	listener := pq.NewListener(tap.Address(""), time.Second, time.Minute, nil)
	defer listener.Close()
	tap.Must(listener.Listen("news"))
	conn := open("")
	defer conn.Close()
	run(conn, "NOTIFY news, 'first'")
	run(conn, "SELECT pg_notify($1, $2)", "news", "second")
	tap.Equal((<-listener.Notify).Extra, "first")
	tap.Equal((<-listener.Notify).Extra, "second")
}

func work(client int) {
	conn := open(fmt.Sprintf("application_name='client %d'", client))
	defer conn.Close()
	run(conn, fmt.Sprintf("SET app.client = '%d'", client))
	look, err := conn.PrepareContext(background, "SELECT concat_ws(' ', $1::int, $2::int, current_setting('application_name'), "+
		"current_setting('app.client'), count(*), max(n)) FROM seen WHERE client = $1")
	tap.Must(err)
	for n := 0; n < tap.Transactions; n++ {
		transaction, err := conn.BeginTx(background, nil)
		tap.Must(err)
		_, err = transaction.Exec("INSERT INTO seen VALUES ($1, $2)", client, n)
		tap.Must(err)
		var row string
		tap.Must(transaction.Stmt(look).QueryRow(client, n).Scan(&row))
		tap.Equal(row, fmt.Sprintf("%d %d client %d %d %d %d", client, n, client, client, n+1, n))
		tap.Must(transaction.Commit())
	}
}

// The setting that other poolers made people choose goes on working.
func binaryParameters() {
	conn := open("binary_parameters=yes")
	defer conn.Close()
	for n := 0; n < 10; n++ {
		tap.Equal(number(conn, "SELECT $1::int + 1", n), n+1)
	}
}

func main() {
	one := func(work func(conn *sql.Conn)) func() {
		return func() {
			conn := open("")
			defer conn.Close()
			work(conn)
		}
	}
	tap.Run(map[string]func(){
		"connect":                                  one(func(conn *sql.Conn) { tap.Must(conn.PingContext(background)) }),
		"simple query":                             one(func(conn *sql.Conn) { tap.Equal(number(conn, "SELECT 1; SELECT 2"), 1) }),
		"parametrised query":                       one(parametrised),
		"prepared statement over transactions":     preparedOverTransactions,
		"prepared statement over a server restart": preparedOverRestart,
		"commit and rollback":                      commitAndRollback,
		"error and recovery":                       errorAndRecovery,
		"copy in and out":                          copyIn,
		"cancel":                                   cancels,
		"set local":                                setLocal,
		"set of a reported parameter":              setReported,
		"set of another parameter":                 setOther,
		"startup options":                          startupOptions,
		"session state that pins":                  sessionState,
		"listen and notify":                        listenAndNotify,
		"pipeline":                                 func() { panic(tap.Skip("lib/pq has no pipelines")) },
		"large object":                             func() { panic(tap.Skip("lib/pq has no large object interface")) },
		"20 clients keep to themselves":            func() { tap.Concurrently(work) },
		"binary parameters":                        binaryParameters,
	}, "binary parameters")
}
