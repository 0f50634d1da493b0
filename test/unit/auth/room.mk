# auth: unit tests of this room
if HAVE_CRITERION
check_PROGRAMS += test/unit/auth/test_auth
TESTS += test/unit/auth/test_auth
test_unit_auth_test_auth_SOURCES = \
	test/unit/auth/exchange.c test/unit/auth/exchange.h \
	test/unit/auth/test_base64.c \
	test/unit/auth/test_channel_binding.c \
	test/unit/auth/test_digest.c \
	test/unit/auth/test_keys.c \
	test/unit/auth/test_login_client.c \
	test/unit/auth/test_login_server.c \
	test/unit/auth/test_outside.c \
	test/unit/auth/test_password.c \
	test/unit/auth/test_saslprep.c \
	test/unit/auth/test_scram.c \
	test/unit/auth/test_secrets.c \
	test/unit/auth/test_scram_client.c \
	test/unit/auth/test_scram_server.c
endif
