# admin: the files of this room
libpgstage_a_SOURCES += \
	src/admin/column.c include/pgstage/admin/column.h \
	src/admin/command.c include/pgstage/admin/command.h \
	src/admin/console.c include/pgstage/admin/console.h \
	src/admin/portal.c include/pgstage/admin/portal.h \
	src/admin/reference.c \
	src/admin/result.c include/pgstage/admin/result.h \
	src/admin/statement.c include/pgstage/admin/statement.h \
	include/pgstage/tables/commands.def
dist_doc_DATA += doc/console.md
