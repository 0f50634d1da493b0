# env: the files of this room
libpgstage_a_SOURCES += \
	src/env/route.c include/pgstage/env/route.h \
	src/env/url.c include/pgstage/env/url.h
