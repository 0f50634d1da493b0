# base: the unit tests of this room
if HAVE_CRITERION
check_PROGRAMS += test/unit/base/test_base
TESTS += test/unit/base/test_base
test_unit_base_test_base_SOURCES = \
	test/unit/base/test_buffer.c \
	test/unit/base/test_cidr.c \
	test/unit/base/test_chain.c \
	test/unit/base/test_list.c \
	test/unit/base/test_log.c \
	test/unit/base/test_map.c test/unit/base/test_memory.c \
	test/unit/base/test_random.c test/unit/base/test_slab.c \
	test/unit/base/test_text.c
endif
