# wire: unit tests of this room
if HAVE_CRITERION
check_PROGRAMS += test/unit/wire/test_wire
TESTS += test/unit/wire/test_wire
test_unit_wire_test_wire_SOURCES = \
	test/unit/wire/test_error_fields.c \
	test/unit/wire/test_frame.c \
	test/unit/wire/test_intent.c \
	test/unit/wire/test_kinds.c \
	test/unit/wire/test_mask.c \
	test/unit/wire/test_message.c \
	test/unit/wire/test_proxy.c \
	test/unit/wire/test_sql.c \
	test/unit/wire/test_startup.c \
	test/unit/wire/piece.h
endif
