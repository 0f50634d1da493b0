# ThreadSanitizer tests: plain programs, built and run only with --enable-tsan
if TSAN
check_PROGRAMS += test/tsan/test_worker_tsan
TESTS += test/tsan/test_worker_tsan
test_tsan_test_worker_tsan_SOURCES = test/tsan/test_worker_tsan.c

check_PROGRAMS += test/tsan/test_net_tsan
TESTS += test/tsan/test_net_tsan
test_tsan_test_net_tsan_SOURCES = test/tsan/test_net_tsan.c

check_PROGRAMS += test/tsan/test_auth_tsan
TESTS += test/tsan/test_auth_tsan
test_tsan_test_auth_tsan_SOURCES = test/tsan/test_auth_tsan.c \
	test/unit/auth/exchange.c test/unit/auth/exchange.h

check_PROGRAMS += test/tsan/test_pool_tsan
TESTS += test/tsan/test_pool_tsan
test_tsan_test_pool_tsan_SOURCES = test/tsan/test_pool_tsan.c

check_PROGRAMS += test/tsan/test_statements_tsan
TESTS += test/tsan/test_statements_tsan
test_tsan_test_statements_tsan_SOURCES = test/tsan/test_statements_tsan.c
endif
