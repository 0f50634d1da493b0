# wire: the files of this room
libpgstage_a_SOURCES += \
	src/wire/error_fields.c \
	src/wire/frame.c include/pgstage/wire/frame.h \
	src/wire/intent.c include/pgstage/wire/intent.h \
	src/wire/kinds.c include/pgstage/wire/kinds.h \
	src/wire/mask.c include/pgstage/wire/mask.h \
	src/wire/message.c include/pgstage/wire/message.h \
	src/wire/proxy.c include/pgstage/wire/proxy.h \
	src/wire/sql.c src/wire/sql_inside.h include/pgstage/wire/sql.h \
	src/wire/sql_set.c src/wire/sql_token.c \
	src/wire/startup.c include/pgstage/wire/startup.h \
	include/pgstage/tables/messages.def
