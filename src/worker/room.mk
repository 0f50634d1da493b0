# worker: the files of this room
libpgstage_a_SOURCES += \
	src/worker/gather.c include/pgstage/worker/gather.h \
	src/worker/loop.c include/pgstage/worker/loop.h \
	src/worker/offload.c include/pgstage/worker/offload.h \
	src/worker/timer.c include/pgstage/worker/timer.h include/pgstage/worker/heap.h
