# worker: the unit tests of this room
if HAVE_CRITERION
check_PROGRAMS += test/unit/worker/test_worker
TESTS += test/unit/worker/test_worker
test_unit_worker_test_worker_SOURCES = \
	test/unit/worker/test_gather.c \
	test/unit/worker/test_loop.c \
	test/unit/worker/test_offload.c \
	test/unit/worker/test_timer.c \
	test/unit/worker/test_watch.c
endif
