# net: unit tests of this room. The resolver's is a program of its own: it brings its getaddrinfo, as dial needs it too.
if HAVE_CRITERION
check_PROGRAMS += test/unit/net/test_net test/unit/net/test_resolver
TESTS += test/unit/net/test_net test/unit/net/test_resolver
test_unit_net_test_net_SOURCES = \
	test/unit/net/certificate.c test/unit/net/certificate.h \
	test/unit/net/harness.c test/unit/net/harness.h \
	test/unit/net/test_address.c \
	test/unit/net/test_listener.c \
	test/unit/net/test_stream.c \
	test/unit/net/test_stream_tls.c \
	test/unit/net/test_tls.c
test_unit_net_test_resolver_SOURCES = \
	test/unit/net/harness.c test/unit/net/harness.h \
	test/unit/net/test_dial.c \
	test/unit/net/test_resolver.c
endif
