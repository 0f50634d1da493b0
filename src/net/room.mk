# net: the files of this room
libpgstage_a_SOURCES += \
	src/net/address.c include/pgstage/net/address.h \
	src/net/dial.c include/pgstage/net/dial.h \
	src/net/listener.c include/pgstage/net/listener.h \
	src/net/resolver.c include/pgstage/net/resolver.h \
	src/net/stream.c include/pgstage/net/stream.h src/net/stream_inside.h \
	src/net/stream_connect.c \
	src/net/stream_output.c \
	src/net/stream_tls.c \
	src/net/tls.c include/pgstage/net/tls.h src/net/tls_inside.h \
	src/net/tls_connection.c \
	src/net/tls_policy.c \
	src/net/tuning.c include/pgstage/net/tuning.h
