# session: the files of this room
libpgstage_a_SOURCES += src/session/transaction.c include/pgstage/session/transaction.h
libpgstage_a_SOURCES += src/session/parameters.c include/pgstage/session/parameters.h
