# health: unit tests of this room
if HAVE_CRITERION
check_PROGRAMS += test/unit/health/test_health
TESTS += test/unit/health/test_health
test_unit_health_test_health_SOURCES = \
	test/unit/health/test_check_judge.c \
	test/unit/health/test_judge.c \
	test/unit/health/test_lookup.c \
	test/unit/health/test_probe_words.c
test_unit_health_test_health_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)

# A program of its own: it brings its getaddrinfo.
check_PROGRAMS += test/unit/health/test_monitor
TESTS += test/unit/health/test_monitor
test_unit_health_test_monitor_SOURCES = test/unit/health/test_monitor.c
endif
