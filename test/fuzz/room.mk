# Fuzz targets (configure --enable-fuzzers CC=clang; scripts/fuzz builds and runs them). One line for
# each target, and its seeds in test/fuzz/seeds/<target>/.
fuzz_targets =
fuzz_targets += test/fuzz/fuzz_frame
fuzz_targets += test/fuzz/fuzz_startup
fuzz_targets += test/fuzz/fuzz_scram
fuzz_targets += test/fuzz/fuzz_ini
fuzz_targets += test/fuzz/fuzz_proxy
fuzz_targets += test/fuzz/fuzz_sql
fuzz_targets += test/fuzz/fuzz_intent
fuzz_targets += test/fuzz/fuzz_hba
fuzz_targets += test/fuzz/fuzz_ldap
fuzz_targets += test/fuzz/fuzz_mask
fuzz_targets += test/fuzz/fuzz_chain

FUZZ_LINK = $(AM_LDFLAGS) -fsanitize=fuzzer
FUZZ_LIBS = libpgstage.a $(PRODUCT_LIBS)
EXTRA_DIST += test/fuzz/seeds test/fuzz/promise.h
if FUZZERS
EXTRA_PROGRAMS += $(fuzz_targets)
endif

test_fuzz_fuzz_frame_SOURCES = test/fuzz/fuzz_frame.c
test_fuzz_fuzz_frame_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_frame_LDADD = $(FUZZ_LIBS)

test_fuzz_fuzz_startup_SOURCES = test/fuzz/fuzz_startup.c
test_fuzz_fuzz_startup_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_startup_LDADD = $(FUZZ_LIBS)

test_fuzz_fuzz_scram_SOURCES = test/fuzz/fuzz_scram.c
test_fuzz_fuzz_scram_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_scram_LDADD = $(FUZZ_LIBS)

test_fuzz_fuzz_ini_SOURCES = test/fuzz/fuzz_ini.c
test_fuzz_fuzz_ini_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_ini_LDADD = $(FUZZ_LIBS)

test_fuzz_fuzz_proxy_SOURCES = test/fuzz/fuzz_proxy.c
test_fuzz_fuzz_proxy_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_proxy_LDADD = $(FUZZ_LIBS)

test_fuzz_fuzz_sql_SOURCES = test/fuzz/fuzz_sql.c
test_fuzz_fuzz_sql_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_sql_LDADD = $(FUZZ_LIBS)

test_fuzz_fuzz_intent_SOURCES = test/fuzz/fuzz_intent.c
test_fuzz_fuzz_intent_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_intent_LDADD = $(FUZZ_LIBS)

test_fuzz_fuzz_hba_SOURCES = test/fuzz/fuzz_hba.c
test_fuzz_fuzz_hba_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_hba_LDADD = $(FUZZ_LIBS)

test_fuzz_fuzz_ldap_SOURCES = test/fuzz/fuzz_ldap.c
test_fuzz_fuzz_ldap_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_ldap_LDADD = $(FUZZ_LIBS)

test_fuzz_fuzz_mask_SOURCES = test/fuzz/fuzz_mask.c
test_fuzz_fuzz_mask_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_mask_LDADD = $(FUZZ_LIBS)

test_fuzz_fuzz_chain_SOURCES = test/fuzz/fuzz_chain.c
test_fuzz_fuzz_chain_LDFLAGS = $(FUZZ_LINK)
test_fuzz_fuzz_chain_LDADD = $(FUZZ_LIBS)
