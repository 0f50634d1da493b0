# session: unit tests of this room
if HAVE_CRITERION
check_PROGRAMS += test/unit/session/test_session
TESTS += test/unit/session/test_session
test_unit_session_test_session_SOURCES = test/unit/session/test_failures.c \
	test/unit/session/test_choice.c test/unit/session/test_exchange.c test/unit/session/test_worker.c \
	test/unit/session/test_host.c \
	test/unit/session/test_loss.c \
	test/unit/session/test_accepted.c test/unit/session/test_journal.c test/unit/session/test_tracker.c \
	test/unit/session/test_pace.c test/unit/session/test_parameters.c test/unit/session/test_cancel_key.c test/unit/session/test_replication.c \
	test/unit/session/test_statements.c test/unit/session/test_transaction.c test/unit/session/test_audit.c test/unit/session/test_watch.c
endif
