# pool: unit tests of this room
if HAVE_CRITERION
check_PROGRAMS += test/unit/pool/test_pool
TESTS += test/unit/pool/test_pool
test_unit_pool_test_pool_SOURCES = \
	test/unit/pool/stage.c test/unit/pool/stage.h \
	test/unit/pool/test_control.c \
	test/unit/pool/test_limit.c test/unit/pool/test_own.c \
	test/unit/pool/test_pool.c \
	test/unit/pool/test_registry.c \
	test/unit/pool/test_size.c \
	test/unit/pool/test_switches.c

# A program of its own: Criterion loses 48 bytes when a long test outlives all other suites.
check_PROGRAMS += test/unit/pool/test_pool_model
TESTS += test/unit/pool/test_pool_model
test_unit_pool_test_pool_model_SOURCES = \
	test/unit/pool/stage.c test/unit/pool/stage.h \
	test/unit/pool/test_model.c
endif
