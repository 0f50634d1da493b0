# test/drivers: real drivers in their languages. Built and run by `make check-drivers` only, since it needs
# the packages of `scripts/install-packages drivers`.
if HAVE_CRITERION
EXTRA_PROGRAMS += test/drivers/test_drivers
test_drivers_test_drivers_SOURCES = test/drivers/drivers.c test/drivers/drivers.def \
	test/drivers/cases.def
test_drivers_test_drivers_CFLAGS = $(SYSTEM_CFLAGS) -I$(srcdir)/test/drivers
test_drivers_test_drivers_LDADD = $(SYSTEM_LIBS)
endif
