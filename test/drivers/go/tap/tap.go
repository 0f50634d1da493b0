// Package tap is what the Go drivers share: cases in their order, verdicts as TAP, the restart of PostgreSQL.
package tap

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// Session says that the pool mode is session.
var Session = os.Getenv("PGSTAGE_TEST_MODE") == "session"

const (
	Clients      = 20
	Transactions = 100
)

// Skip is the panic of a case for which the driver has no means; it says what is missing.
type Skip string

// Others is how many take all servers but one, so that a client has to go to another server.
func Others() int {
	if Session {
		return 0
	}
	return 4
}

// RestartServer returns when PostgreSQL has been restarted.
func RestartServer() {
	control, err := net.Dial("tcp", "127.0.0.1:"+os.Getenv("PGSTAGE_TEST_CONTROL"))
	Must(err)
	defer control.Close()
	_, err = control.Write([]byte("restart\n"))
	Must(err)
	line, err := bufio.NewReader(control).ReadString('\n')
	Must(err)
	Equal(line, "done\n")
}

// Address is where pgstage is, as libpq's drivers write it, with these settings behind.
func Address(settings string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%s user=app dbname=app sslmode=disable %s", os.Getenv("PGPORT"), settings)
}

// Must ends the case when there is an error.
func Must(err error) {
	if err != nil {
		panic(err)
	}
}

// Equal ends the case when the two are not the same.
func Equal(seen, expected interface{}) {
	if fmt.Sprintf("%T %v", seen, seen) != fmt.Sprintf("%T %v", expected, expected) {
		panic(fmt.Sprintf("%v instead of %v", seen, expected))
	}
}

func verdict(number int, name string, work func()) (ok bool) {
	done := make(chan interface{}, 1)
	go func() {
		defer func() { done <- recover() }()
		work()
	}()
	var problem interface{} = "does not end"
	select {
	case problem = <-done:
	case <-time.After(60 * time.Second):
	}
	if reason, skipped := problem.(Skip); skipped {
		fmt.Printf("ok %d - %s # SKIP %s\n", number, name, string(reason))
	} else if problem != nil {
		fmt.Printf("not ok %d - %s\n%v\n", number, name, problem)
		return false
	} else {
		fmt.Printf("ok %d - %s\n", number, name)
	}
	return true
}

// Run runs a case for each name of the list, and for each of extra.
func Run(cases map[string]func(), extra ...string) {
	names := append(strings.Split(strings.TrimSuffix(os.Getenv("PGSTAGE_TEST_CASES"), ";"), ";"), extra...)
	status := 0
	for i, name := range names {
		if work, known := cases[name]; known && !verdict(i+1, name, work) {
			status = 1
		}
	}
	os.Exit(status)
}

// Concurrently runs one client each and panics with what failed first.
func Concurrently(work func(number int)) {
	results := make(chan interface{}, Clients)
	for i := 0; i < Clients; i++ {
		go func(number int) {
			defer func() { results <- recover() }()
			work(number)
		}(i)
	}
	for i := 0; i < Clients; i++ {
		if problem := <-results; problem != nil {
			panic(problem)
		}
	}
}
