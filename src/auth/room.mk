# auth: the files of this room
libpgstage_a_SOURCES += \
	src/auth/base64.c include/pgstage/auth/base64.h \
	src/auth/chosen.c include/pgstage/auth/chosen.h \
	src/auth/digest.c include/pgstage/auth/digest.h \
	src/auth/keys.c include/pgstage/auth/keys.h \
	src/auth/login_client.c src/auth/login_server.c include/pgstage/auth/login.h \
	src/auth/outside.c src/auth/ldap.c src/auth/ldap_text.c src/auth/pam.c \
	include/pgstage/auth/outside.h \
	src/auth/password.c include/pgstage/auth/password.h \
	src/auth/secrets.c src/auth/valid_until.c include/pgstage/auth/secrets.h \
	src/auth/saslprep.c include/pgstage/auth/saslprep.h \
	src/auth/scram.c include/pgstage/auth/scram.h \
	src/auth/scram_client.c \
	src/auth/scram_server.c \
	src/auth/scram_text.c include/pgstage/auth/scram_text.h
