# admin: the files of this room
libpgstage_a_SOURCES += \
	src/admin/admin.c include/pgstage/admin/admin.h src/admin/inside.h \
	src/admin/column.c include/pgstage/admin/column.h \
	src/admin/command.c include/pgstage/admin/command.h \
	src/admin/command_change.c \
	src/admin/command_check.c \
	src/admin/command_failover.c \
	src/admin/command_procedure.c \
	src/admin/console.c include/pgstage/admin/console.h \
	src/admin/gathering.c \
	src/admin/name.c \
	src/admin/portal.c include/pgstage/admin/portal.h \
	src/admin/reference.c \
	src/admin/result.c include/pgstage/admin/result.h \
	src/admin/show_config.c \
	src/admin/show_peer.c src/admin/show_pool.c \
	src/admin/show_host.c \
	src/admin/show_monitoring.c \
	src/admin/show_socket.c \
	src/admin/show_state.c \
	src/admin/show_tls.c \
	src/admin/show_stats.c \
	src/admin/statement.c include/pgstage/admin/statement.h \
	src/admin/stats.c include/pgstage/admin/stats.h \
	src/admin/target.c \
	src/admin/wait.c \
	include/pgstage/tables/commands.def
dist_doc_DATA += doc/console.md
