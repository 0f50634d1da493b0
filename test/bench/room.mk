# test/bench: what scripts/bench measures with. Built by `make bench-programs` only.
bench_programs = test/bench/null_backend test/bench/generator test/bench/relay test/bench/tls_floor \
	test/bench/pool_lock
EXTRA_PROGRAMS += $(bench_programs)
EXTRA_DIST += test/bench/speed.py test/bench/scale.py test/bench/pgbench.py test/bench/failover.py test/bench/check-instructions test/bench/instructions.txt scripts/bench
dist_doc_DATA += doc/benchmarks.md

BENCH_LIBS = libpgstage.a $(PRODUCT_LIBS)

test_bench_null_backend_SOURCES = test/bench/null_backend.c
test_bench_null_backend_LDADD = $(BENCH_LIBS)

test_bench_generator_SOURCES = test/bench/generator.c test/bench/generator.h test/bench/login.c \
	test/bench/histogram.c test/bench/histogram.h
test_bench_generator_LDADD = $(BENCH_LIBS)

test_bench_relay_SOURCES = test/bench/relay.c
test_bench_relay_LDADD =

test_bench_tls_floor_SOURCES = test/bench/tls_floor.c
test_bench_tls_floor_LDADD = $(BENCH_LIBS)

test_bench_pool_lock_SOURCES = test/bench/pool_lock.c
test_bench_pool_lock_LDADD = $(BENCH_LIBS)

# Measures with the help of the system tests, so it needs Criterion as they do.
if HAVE_CRITERION
EXTRA_PROGRAMS += test/bench/failover
test_bench_failover_SOURCES = test/bench/failover.c test/system/failover.c test/system/failover.h \
	test/system/system.h
test_bench_failover_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/test/system
bench-failover: pgstage$(EXEEXT) test/bench/failover
else
bench-failover:
	@echo "this needs Criterion (Debian: apt-get install libcriterion-dev)"; exit 1
endif

bench-programs: pgstage$(EXEEXT) $(bench_programs)
.PHONY: bench-programs bench-failover
