# session: the files of this room
libpgstage_a_SOURCES += \
	src/session/again.c include/pgstage/session/again.h \
	src/session/access.c include/pgstage/session/access.h \
	src/session/audit.c include/pgstage/session/audit.h \
	src/session/backend.c include/pgstage/session/backend.h \
	src/session/border.c include/pgstage/session/border.h \
	src/session/cancel.c include/pgstage/session/cancel.h \
	src/session/cancel_key.c include/pgstage/session/cancel_key.h \
	src/session/change.c include/pgstage/session/change.h \
	src/session/choice.c include/pgstage/session/choice.h \
	src/session/client.c include/pgstage/session/client.h \
	src/session/console.c include/pgstage/session/console.h \
	src/session/exchange.c include/pgstage/session/exchange.h \
	src/session/expiry.c include/pgstage/session/expiry.h \
	src/session/failures.c include/pgstage/session/failures.h \
	src/session/door.c include/pgstage/session/door.h \
	src/session/gate.c include/pgstage/session/gate.h \
	src/session/host.c include/pgstage/session/host.h \
	src/session/fetch.c \
	src/session/inquiry.c src/session/inquirer.c src/session/inquiry_inside.h \
	include/pgstage/session/inquiry.h \
	src/session/identity.c src/session/login.c src/session/login_inside.h src/session/startup.c \
	src/session/loss.c include/pgstage/session/loss.h \
	src/session/lost.c include/pgstage/session/lost.h \
	include/pgstage/session/login.h \
	src/session/outgoing.c include/pgstage/session/outgoing.h \
	src/session/pace.c include/pgstage/session/pace.h \
	src/session/parameters.c include/pgstage/session/parameters.h \
	src/session/peer.c include/pgstage/session/peer.h \
	src/session/pin.c include/pgstage/session/pin.h include/pgstage/tables/pins.def \
	src/session/plane.c include/pgstage/session/plane.h \
	src/session/prepared.c include/pgstage/session/prepared.h src/session/prepared_inside.h \
	src/session/prepared_answer.c \
	src/session/proxy.c include/pgstage/session/proxy.h \
	src/session/replication.c include/pgstage/session/replication.h \
	src/session/reason.c include/pgstage/session/reason.h include/pgstage/tables/reasons.def \
	src/session/recall.c include/pgstage/session/recall.h \
	src/session/record.c include/pgstage/session/record.h \
	src/session/relay_client.c src/session/relay_server.c src/session/relay_inside.h \
	include/pgstage/session/relay.h \
	src/session/server.c src/session/server_parameters.c src/session/server_move.c \
	src/session/server_inside.h include/pgstage/session/server.h \
	src/session/server_login.c src/session/server_questions.c \
	src/session/server_login_inside.h include/pgstage/session/server_login.h \
	src/session/setup.c \
	src/session/accepted.c include/pgstage/session/accepted.h \
	src/session/listening.c src/session/listening_hub.c src/session/listening_inside.h \
	include/pgstage/session/listening.h \
	src/session/journal.c include/pgstage/session/journal.h \
	src/session/tracker.c src/session/tracker_apply.c src/session/tracker_read.c \
	src/session/tracker_inside.h include/pgstage/session/tracker.h \
	src/session/standing.c include/pgstage/session/standing.h \
	src/session/statement_cache.c include/pgstage/session/statement_cache.h \
	src/session/statement_names.c include/pgstage/session/statement_names.h \
	src/session/statement_set.c include/pgstage/session/statement_set.h \
	src/session/transaction.c include/pgstage/session/transaction.h \
	src/session/unnamed.c include/pgstage/session/unnamed.h \
	src/session/view.c \
	src/session/wait.c include/pgstage/session/wait.h \
	src/session/warm.c \
	src/session/watch.c include/pgstage/session/watch.h include/pgstage/tables/figures.def \
	include/pgstage/tables/security.def \
	src/session/worker.c include/pgstage/session/worker.h
dist_doc_DATA += doc/session-state.md doc/protocol.md doc/monitoring.md
