# net: unit tests of this room
if HAVE_CRITERION
check_PROGRAMS += test/unit/net/test_net
TESTS += test/unit/net/test_net
test_unit_net_test_net_SOURCES = \
	test/unit/net/harness.c test/unit/net/harness.h \
	test/unit/net/certificate.c test/unit/net/certificate.h \
	test/unit/net/test_address.c \
	test/unit/net/test_stream.c \
	test/unit/net/test_tls.c
test_unit_net_test_net_CFLAGS = $(UNIT_CFLAGS)
test_unit_net_test_net_LDADD = $(UNIT_LIBS)
endif
