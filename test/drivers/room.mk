# test/drivers: real drivers in their languages. Built and run by `make check-drivers` only, since it needs
# the packages of `scripts/install-packages drivers`.
driver_files = test/drivers/cases.def test/drivers/drivers.def \
	test/drivers/python/tap.py test/drivers/python/with_psycopg3.py \
	test/drivers/python/with_psycopg2.py test/drivers/python/with_asyncpg.py
EXTRA_DIST += $(driver_files)

if HAVE_CRITERION
EXTRA_PROGRAMS += test/drivers/test_drivers
test_drivers_test_drivers_SOURCES = test/drivers/drivers.c
test_drivers_test_drivers_CFLAGS = $(SYSTEM_CFLAGS)
test_drivers_test_drivers_LDADD = $(SYSTEM_LIBS)
test/drivers/test_drivers-drivers.$(OBJEXT): test/drivers/cases.def test/drivers/drivers.def

DRIVER_TESTS = test/drivers/test_drivers
DRIVER_LOGS = $(DRIVER_TESTS:=.log)
$(DRIVER_LOGS): %.log: %$(EXEEXT)
	@p='$*'; b='$*'; $(am__check_pre) $(LOG_DRIVER) --test-name "$$f" --log-file $$b.log \
	--trs-file $$b.trs $(am__common_driver_flags) $(AM_LOG_DRIVER_FLAGS) $(LOG_DRIVER_FLAGS) -- \
	$(LOG_COMPILE) "$$tst" $(am__check_post)

# Each test has a cluster, a pgstage and a driver: three at a time keep two cores busy.
drivers-built: $(DRIVER_TESTS)

check-drivers: pgstage$(EXEEXT) $(DRIVER_TESTS)
	@rm -f $(DRIVER_LOGS) $(DRIVER_LOGS:.log=.trs)
	$(AM_V_at)PGSTAGE="$${PGSTAGE:-$(abs_builddir)/pgstage$(EXEEXT)}" \
	PGSTAGE_TEST_CACHE="$(abs_builddir)/test/system" \
	PGSTAGE_TEST_DRIVERS="$(abs_srcdir)/test/drivers" \
	PGSTAGE_TEST_DRIVERS_BUILT="$(abs_builddir)/test/drivers/built" \
	CRITERION_JOBS="$${CRITERION_JOBS:-3}" \
	$(MAKE) $(AM_MAKEFLAGS) check-TESTS TESTS="$(DRIVER_TESTS)"
else
check-drivers:
	@echo "the driver tests need Criterion (Debian: apt-get install libcriterion-dev)"; exit 1
endif
.PHONY: check-drivers drivers-built
