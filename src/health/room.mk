# health: the files of this room
libpgstage_a_SOURCES += \
	src/health/check.c include/pgstage/health/check.h src/health/check_inside.h \
	src/health/check_grants.c \
	src/health/check_judge.c \
	src/health/check_subject.c \
	src/health/check_visit.c \
	src/health/facts.c \
	src/health/judge.c \
	src/health/monitor.c include/pgstage/health/monitor.h src/health/monitor_inside.h \
	src/health/monitor_host.c \
	src/health/monitor_name.c \
	src/health/lookup.c include/pgstage/health/lookup.h \
	src/health/report.c include/pgstage/health/report.h \
	src/health/handshake.c include/pgstage/health/handshake.h \
	src/health/probe.c include/pgstage/health/probe.h src/health/probe_inside.h \
	src/health/probe_parameters.c \
	src/health/probe_words.c
dist_doc_DATA += doc/check.md doc/hosts.md
