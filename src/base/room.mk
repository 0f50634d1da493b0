# base: the files of this room
libpgstage_a_SOURCES += \
	src/base/buffer.c include/pgstage/base/buffer.h \
	src/base/chain.c src/base/chain_verify.c include/pgstage/base/chain.h \
	src/base/check.c include/pgstage/base/check.h \
	src/base/cidr.c include/pgstage/base/cidr.h \
	src/base/clock.c include/pgstage/base/clock.h \
	src/base/list.c include/pgstage/base/list.h \
	src/base/log.c include/pgstage/base/log.h \
	src/base/map.c include/pgstage/base/map.h \
	src/base/memory.c include/pgstage/base/memory.h \
	src/base/random.c include/pgstage/base/random.h \
	src/base/slab.c include/pgstage/base/slab.h \
	src/base/text.c include/pgstage/base/text.h \
	include/pgstage/base/counter.h \
	include/pgstage/base/kernel.h
