# failover: the files of this room
libpgstage_a_SOURCES += \
	include/pgstage/failover/decide.h \
	src/failover/episode.c include/pgstage/failover/episode.h \
	include/pgstage/failover/failover.h \
	src/failover/guard.c include/pgstage/failover/guard.h include/pgstage/tables/guards.def \
	src/failover/hook.c include/pgstage/failover/hook.h \
	src/failover/standing.c include/pgstage/failover/standing.h \
	src/failover/situation.c include/pgstage/failover/situation.h
