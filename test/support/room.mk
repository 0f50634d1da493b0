# test/support: what the system tests share
if HAVE_CRITERION
check_LIBRARIES = test/support/libsupport.a
test_support_libsupport_a_SOURCES = \
	test/support/client.c test/support/client.h \
	test/support/cluster.c test/support/cluster.h \
	test/support/constellation.c test/support/constellation.h \
	test/support/fake.c test/support/fake.h \
	test/support/hand.c test/support/hand.h \
	test/support/ledger.c test/support/ledger.h \
	test/support/listeners.c test/support/listeners.h \
	test/support/load.c test/support/load.h \
	test/support/network.c test/support/network.h \
	test/support/pki.c test/support/pki.h \
	test/support/process.c test/support/process.h \
	test/support/program.c test/support/program.h \
	test/support/proxy.c test/support/proxy.h \
	test/support/relay.c test/support/relay.h \
	test/support/transcript.c test/support/transcript.h \
	test/support/until.h \
	test/support/valve.c test/support/valve.h \
	test/support/wire.c test/support/wire.h
SUPPORT_LIBS = test/support/libsupport.a
endif
EXTRA_DIST += test/support/check-install test/support/run
