# test/system: pgstage as a process, between libpq and a real PostgreSQL. Built by `make check`, run by
# `make check-system`.
if HAVE_CRITERION
SYSTEM_TESTS =

SYSTEM_TESTS += test/system/test_accept
test_system_test_accept_SOURCES = test/system/accept.c test/system/system.h

SYSTEM_TESTS += test/system/test_answers_owed
test_system_test_answers_owed_SOURCES = test/system/answers_owed.c test/system/system.h

SYSTEM_TESTS += test/system/test_console
test_system_test_console_SOURCES = test/system/views.c test/system/commands.c \
	test/system/system.h

SYSTEM_TESTS += test/system/test_chaos
test_system_test_chaos_SOURCES = test/system/chaos.c test/system/system.h

SYSTEM_TESTS += test/system/test_failover
test_system_test_failover_SOURCES = test/system/failover_restart.c test/system/failover_follow.c \
	test/system/failover_network.c test/system/failover_standing.c \
	test/system/failover.c test/system/failover.h test/system/system.h

SYSTEM_TESTS += test/system/test_failover_promote
test_system_test_failover_promote_SOURCES = test/system/failover_promote.c \
	test/system/failover_planned.c test/system/failover_again.c \
	test/system/failover.c test/system/failover.h test/system/system.h

SYSTEM_TESTS += test/system/test_failover_procedure
test_system_test_failover_procedure_SOURCES = test/system/failover_procedure.c \
	test/system/failover_choice.c test/system/failover.c test/system/failover.h test/system/system.h

SYSTEM_TESTS += test/system/test_patroni
test_system_test_patroni_SOURCES = test/system/failover_patroni.c test/system/failover.c \
	test/system/failover.h test/system/system.h

SYSTEM_TESTS += test/system/test_differential
test_system_test_differential_SOURCES = test/system/differential.c test/system/system.h

SYSTEM_TESTS += test/system/test_flow
test_system_test_flow_SOURCES = test/system/flow.c test/system/system.h

SYSTEM_TESTS += test/system/test_health
test_system_test_health_SOURCES = test/system/health.c test/system/system.h

SYSTEM_TESTS += test/system/test_hostile
test_system_test_hostile_SOURCES = test/system/hostile.c test/system/liar.c \
	test/system/innocent.c test/system/innocent.h test/system/system.h

SYSTEM_TESTS += test/system/test_isolation
test_system_test_isolation_SOURCES = test/system/isolation.c test/system/system.h

SYSTEM_TESTS += test/system/test_access
test_system_test_access_SOURCES = test/system/access.c test/system/hba.c test/system/system.h

SYSTEM_TESTS += test/system/test_auth
test_system_test_auth_SOURCES = test/system/channel_binding.c test/system/auth_query.c \
	test/system/system.h

SYSTEM_TESTS += test/system/test_directory
test_system_test_directory_SOURCES = test/system/ldap.c test/system/pam.c test/system/system.h

SYSTEM_TESTS += test/system/test_audit
test_system_test_audit_SOURCES = test/system/audit.c test/system/monitoring.c test/system/system.h

SYSTEM_TESTS += test/system/test_check
test_system_test_check_SOURCES = test/system/check.c test/system/system.h

SYSTEM_TESTS += test/system/test_login
test_system_test_login_SOURCES = test/system/login.c test/system/input.c test/system/system.h

SYSTEM_TESTS += test/system/test_gate
test_system_test_gate_SOURCES = test/system/gate.c test/system/system.h

SYSTEM_TESTS += test/system/test_lost
test_system_test_lost_SOURCES = test/system/lost.c test/system/lost_ledger.c \
	test/system/no_primary.c test/system/refused.c test/system/system.h

SYSTEM_TESTS += test/system/test_operation
test_system_test_operation_SOURCES = test/system/operation.c test/system/reload.c \
	test/system/restart.c test/system/systemd.c test/system/system.h

SYSTEM_TESTS += test/system/test_pgbench
test_system_test_pgbench_SOURCES = test/system/pgbench.c test/system/system.h

SYSTEM_TESTS += test/system/test_pooling
test_system_test_pooling_SOURCES = test/system/pooling.c test/system/limits.c \
	test/system/system.h

SYSTEM_TESTS += test/system/test_prepared
test_system_test_prepared_SOURCES = test/system/prepared.c test/system/absent_drivers.c \
	test/system/system.h

SYSTEM_TESTS += test/system/test_probe
test_system_test_probe_SOURCES = test/system/probe.c test/system/system.h

SYSTEM_TESTS += test/system/test_protocol
test_system_test_protocol_SOURCES = test/system/protocol.c test/system/peers.c test/system/edges.c \
	test/system/system.h

SYSTEM_TESTS += test/system/test_replication
test_system_test_replication_SOURCES = test/system/replication.c test/system/system.h

SYSTEM_TESTS += test/system/test_session_state
test_system_test_session_state_SOURCES = test/system/session_state.c test/system/session_pipelines.c \
	test/system/system.h

SYSTEM_TESTS += test/system/test_session_leaks
test_system_test_session_leaks_SOURCES = test/system/session_leaks.c test/system/system.h

SYSTEM_TESTS += test/system/test_timeouts
test_system_test_timeouts_SOURCES = test/system/timeouts.c test/system/system.h

SYSTEM_TESTS += test/system/test_tls
test_system_test_tls_SOURCES = test/system/client_tls.c test/system/server_tls.c \
	test/system/border.c test/system/environments.c test/system/tls_everywhere.c test/system/capture.c \
	test/system/system.h

SYSTEM_TESTS += test/system/test_traffic
test_system_test_traffic_SOURCES = test/system/traffic.c test/system/copy.c test/system/large.c \
	test/system/cancel.c test/system/system.h

check_PROGRAMS += $(SYSTEM_TESTS)

# Not in TESTS, so that `make check` stays short; so automake makes no rules for their logs, and this is
# its own rule for them.
SYSTEM_LOGS = $(SYSTEM_TESTS:=.log)
$(SYSTEM_LOGS): %.log: %$(EXEEXT)
	@p='$*'; b='$*'; $(am__check_pre) $(LOG_DRIVER) --test-name "$$f" --log-file $$b.log \
	--trs-file $$b.trs $(am__common_driver_flags) $(AM_LOG_DRIVER_FLAGS) $(LOG_DRIVER_FLAGS) -- \
	$(LOG_COMPILE) "$$tst" $(am__check_post)

# Tests wait more than they compute: four at a time on two cores.
check-system: pgstage$(EXEEXT) $(SYSTEM_TESTS) check-guide
	@rm -f $(SYSTEM_LOGS) $(SYSTEM_LOGS:.log=.trs)
	$(AM_V_at)PGSTAGE="$${PGSTAGE:-$(abs_builddir)/pgstage$(EXEEXT)}" \
	PGSTAGE_TEST_CACHE="$(abs_builddir)/test/system" CRITERION_JOBS="$${CRITERION_JOBS:-4}" \
	$(MAKE) $(AM_MAKEFLAGS) check-TESTS TESTS="$(SYSTEM_TESTS)"
else
check-system:
	@echo "the system tests need Criterion (Debian: apt-get install libcriterion-dev)"; exit 1
endif
.PHONY: check-system
