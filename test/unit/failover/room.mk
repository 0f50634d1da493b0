# failover: unit tests of this room
if HAVE_CRITERION
check_PROGRAMS += test/unit/failover/test_failover
TESTS += test/unit/failover/test_failover
test_unit_failover_test_failover_SOURCES = \
	test/unit/failover/test_decide.c \
	test/unit/failover/test_engine.c \
	test/unit/failover/test_episode.c \
	test/unit/failover/test_guard.c \
	test/unit/failover/test_hook.c \
	test/unit/failover/test_situation.c \
	test/unit/failover/test_standing.c \
	test/unit/failover/test_store.c \
	test/unit/failover/test_words.c
test_unit_failover_test_failover_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)

# A program of its own: it brings its disk and its clock.
check_PROGRAMS += test/unit/failover/test_engine_model
TESTS += test/unit/failover/test_engine_model
test_unit_failover_test_engine_model_SOURCES = \
	test/unit/failover/model_check.c \
	test/unit/failover/model_hosts.c \
	test/unit/failover/model_world.c \
	test/unit/failover/model_world.h \
	test/unit/failover/test_engine_model.c
test_unit_failover_test_engine_model_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)

# Another one: it brings monitor, sessions, commands and plane as well.
check_PROGRAMS += test/unit/failover/test_procedures_model
TESTS += test/unit/failover/test_procedures_model
test_unit_failover_test_procedures_model_SOURCES = \
	test/unit/failover/model_check.c \
	test/unit/failover/model_cluster.c \
	test/unit/failover/model_cluster.h \
	test/unit/failover/model_hooks.c \
	test/unit/failover/model_sessions.c \
	test/unit/failover/model_world.c \
	test/unit/failover/model_world.h \
	test/unit/failover/test_procedures_model.c \
	test/unit/failover/test_scene.c
test_unit_failover_test_procedures_model_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
endif
