# failover: the files of this room
dist_doc_DATA += doc/failover.md doc/runbook.md
libpgstage_a_SOURCES += \
	src/failover/aftermath.c src/failover/procedure_inside.h \
	src/failover/alarm.c src/failover/inside.h include/pgstage/tables/alarms.def \
	src/failover/ask.c \
	src/failover/automatic.c \
	src/failover/claim.c \
	src/failover/conninfo.c src/failover/conninfo.h \
	src/failover/decide.c include/pgstage/failover/decide.h \
	src/failover/delegation.c src/failover/delegation.h \
	src/failover/drill.c \
	src/failover/episode.c include/pgstage/failover/episode.h \
	src/failover/failover.c include/pgstage/failover/failover.h \
	src/failover/follow.c \
	src/failover/guard.c include/pgstage/failover/guard.h include/pgstage/tables/guards.def \
	src/failover/hook.c include/pgstage/failover/hook.h \
	src/failover/keep.c \
	src/failover/look.c \
	src/failover/lsn.c src/failover/lsn.h \
	src/failover/maintenance.c \
	src/failover/operator.c \
	src/failover/plan.c \
	src/failover/procedure.c include/pgstage/failover/procedure.h \
	src/failover/record.c \
	src/failover/rows.c \
	src/failover/scene.c src/failover/scene.h \
	src/failover/situation.c include/pgstage/failover/situation.h include/pgstage/tables/fences.def \
	src/failover/standing.c include/pgstage/failover/standing.h \
	src/failover/step_promote.c src/failover/step.h \
	src/failover/step_repoint.c \
	src/failover/step_switch.c \
	src/failover/store.c include/pgstage/failover/store.h \
	src/failover/ward.c
