# wire: the files of this room
libpgstage_a_SOURCES +=
