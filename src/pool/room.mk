# pool: the files of this room
libpgstage_a_SOURCES += \
	src/pool/admission.c include/pgstage/pool/registry.h \
	src/pool/control.c \
	src/pool/inside.h \
	src/pool/item.c \
	src/pool/limit.c \
	src/pool/pool.c include/pgstage/pool/pool.h include/pgstage/tables/metrics.def \
	src/pool/queue.c \
	src/pool/registry.c \
	src/pool/settle.c \
	src/pool/switches.c
