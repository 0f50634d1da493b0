# failover: the files of this room
libpgstage_a_SOURCES += \
	src/failover/hook.c include/pgstage/failover/hook.h
