# conf: unit tests of this room, and of env/
if HAVE_CRITERION
check_PROGRAMS += test/unit/conf/test_conf
TESTS += test/unit/conf/test_conf
test_unit_conf_test_conf_SOURCES = \
	test/unit/conf/desk.c test/unit/conf/desk.h \
	test/unit/conf/test_access.c \
	test/unit/conf/test_certificate.c \
	test/unit/conf/test_floor.c \
	test/unit/conf/test_hba.c \
	test/unit/conf/test_ini.c \
	test/unit/conf/test_ldap.c \
	test/unit/conf/test_load.c \
	test/unit/conf/test_matrix.c \
	test/unit/conf/test_option.c \
	test/unit/conf/test_parts.c \
	test/unit/conf/test_route.c \
	test/unit/conf/test_show.c \
	test/unit/conf/test_validate.c
test_unit_conf_test_conf_CPPFLAGS = $(AM_CPPFLAGS) -DSOURCE_DIR='"$(abs_top_srcdir)"'
endif

# The command line's part of it; needs no Criterion.
TESTS += test/unit/conf/check-command-line
EXTRA_DIST += test/unit/conf/check-command-line
