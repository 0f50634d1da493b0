# test/drivers: real drivers in their languages. Built and run by `make check-drivers` only, since it needs
# the packages of `scripts/install-packages drivers`.
driver_files = test/drivers/cases.def test/drivers/drivers.def \
	test/drivers/python/tap.py test/drivers/python/with_psycopg3.py \
	test/drivers/python/with_psycopg2.py test/drivers/python/with_asyncpg.py \
	test/drivers/node/package.json test/drivers/node/package-lock.json test/drivers/node/.npmrc \
	test/drivers/node/tap.js test/drivers/node/with_pg.js test/drivers/node/with_postgres.js \
	test/drivers/java/Jdbc.java \
	test/drivers/go/tap/tap.go test/drivers/go/pq/main.go test/drivers/go/pgx/main.go \
	test/drivers/perl/dbd_pg.pl test/drivers/php/pdo.php test/drivers/ruby/tap.rb test/drivers/ruby/with_pg.rb \
	test/drivers/ruby/active_record.rb test/drivers/ruby/with_sequel.rb \
	test/drivers/python/with_sqlalchemy.py test/drivers/python/with_django.py \
	test/drivers/python/with_odbc.py
EXTRA_DIST += $(driver_files)

if HAVE_CRITERION
EXTRA_PROGRAMS += test/drivers/test_drivers
CLEANFILES += test/drivers/test_drivers$(EXEEXT) test/drivers/built/libpq$(EXEEXT)
test_drivers_test_drivers_SOURCES = test/drivers/drivers.c
test/drivers/drivers.$(OBJEXT): test/drivers/cases.def test/drivers/drivers.def

DRIVER_TESTS = test/drivers/test_drivers
DRIVER_LOGS = $(DRIVER_TESTS:=.log)
$(DRIVER_LOGS): %.log: %$(EXEEXT)
	@p='$*'; b='$*'; $(am__check_pre) $(LOG_DRIVER) --test-name "$$f" --log-file $$b.log \
	--trs-file $$b.trs $(am__common_driver_flags) $(AM_LOG_DRIVER_FLAGS) $(LOG_DRIVER_FLAGS) -- \
	$(LOG_COMPILE) "$$tst" $(am__check_post)

EXTRA_PROGRAMS += test/drivers/built/libpq
test_drivers_built_libpq_SOURCES = test/drivers/c/libpq.c
test_drivers_built_libpq_LDADD = $(LIBPQ_LIBS)

# What the drivers' languages have to make first. The versions from npm are those of package-lock.json.
built = test/drivers/built
DRIVERS_BUILT = test/drivers/built/libpq$(EXEEXT)

DRIVERS_BUILT += $(built)/node/node_modules/.package-lock.json
$(built)/node/node_modules/.package-lock.json: test/drivers/node/package-lock.json
	@$(MKDIR_P) $(built)/node
	@cp $(srcdir)/test/drivers/node/package.json $(srcdir)/test/drivers/node/package-lock.json \
		$(srcdir)/test/drivers/node/.npmrc $(built)/node/
	$(AM_V_GEN)cd $(built)/node && npm ci --silent --no-audit --no-fund --ignore-scripts

POSTGRESQL_JAR = /usr/share/java/postgresql.jar
DRIVERS_BUILT += $(built)/java/Jdbc.class
$(built)/java/Jdbc.class: test/drivers/java/Jdbc.java
	@$(MKDIR_P) $(built)/java
	$(AM_V_GEN)javac -cp $(POSTGRESQL_JAR) -d $(built)/java $(srcdir)/test/drivers/java/Jdbc.java

# Debian's Go packages lie in /usr/share/gocode; "tap" is found as a package of a second GOPATH.
GO_BUILD = @$(MKDIR_P) $(built)/go/path && rm -f $(built)/go/path/src && \
	ln -s $(abs_srcdir)/test/drivers/go $(built)/go/path/src && \
	env GO111MODULE=off GOFLAGS= GOPROXY=off GOPATH=$(abs_builddir)/$(built)/go/path:/usr/share/gocode \
	GOCACHE=$(abs_builddir)/$(built)/go/cache go build
GO_COMMON = test/drivers/go/tap/tap.go
DRIVERS_BUILT += $(built)/go/lib_pq $(built)/go/pgx
$(built)/go/lib_pq: test/drivers/go/pq/main.go $(GO_COMMON)
	$(GO_BUILD) -o $@ $(srcdir)/test/drivers/go/pq/main.go
$(built)/go/pgx: test/drivers/go/pgx/main.go $(GO_COMMON) $(built)/go/lib_pq
	$(GO_BUILD) -o $@ $(srcdir)/test/drivers/go/pgx/main.go

drivers-built: $(DRIVER_TESTS) $(DRIVERS_BUILT)

# Each test has a cluster, a pgstage and a driver: three at a time keep two cores busy. Not by way of
# check-TESTS, which would build all other tests before.
check-drivers: pgstage$(EXEEXT) drivers-built
	@rm -f $(DRIVER_LOGS) $(DRIVER_LOGS:.log=.trs)
	$(AM_V_at)PGSTAGE="$${PGSTAGE:-$(abs_builddir)/pgstage$(EXEEXT)}" \
	PGSTAGE_TEST_CACHE="$(abs_builddir)/test/system" \
	PGSTAGE_TEST_DRIVERS="$(abs_srcdir)/test/drivers" \
	PGSTAGE_TEST_DRIVERS_BUILT="$(abs_builddir)/test/drivers/built" \
	CRITERION_JOBS="$${CRITERION_JOBS:-3}" $(MAKE) $(AM_MAKEFLAGS) $(DRIVER_LOGS)
	@grep -q '^:test-result: PASS' $(DRIVER_LOGS:.log=.trs)
else
check-drivers:
	@echo "the driver tests need Criterion (Debian: apt-get install libcriterion-dev)"; exit 1
endif
.PHONY: check-drivers drivers-built
