# admin: unit tests of this room
if HAVE_CRITERION
check_PROGRAMS += test/unit/admin/test_admin
TESTS += test/unit/admin/test_admin
test_unit_admin_test_admin_SOURCES = \
	test/unit/admin/talk.c test/unit/admin/talk.h \
	test/unit/admin/test_command.c \
	test/unit/admin/test_console.c \
	test/unit/admin/test_daemon.c src/daemon.c src/daemon.h \
	test/unit/admin/test_portal.c \
	test/unit/admin/test_result.c \
	test/unit/admin/test_stats.c \
	test/unit/admin/test_statement.c
test_unit_admin_test_admin_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/src
endif
