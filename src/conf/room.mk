# conf: the files of this room
libpgstage_a_SOURCES += \
	include/pgstage/tables/options.def include/pgstage/tables/classes.def \
	include/pgstage/tables/rules.def \
	src/conf/inside.h include/pgstage/conf/settings.h include/pgstage/conf/origin.h \
	src/conf/access.c include/pgstage/conf/access.h \
	src/conf/arena.c include/pgstage/conf/arena.h \
	src/conf/report.c include/pgstage/conf/report.h \
	src/conf/option.c include/pgstage/conf/option.h \
	src/conf/value.c \
	src/conf/class.c include/pgstage/conf/class.h \
	src/conf/file.c include/pgstage/conf/file.h \
	src/conf/variable.c include/pgstage/conf/variable.h \
	src/conf/ini.c include/pgstage/conf/ini.h \
	src/conf/connstr.c include/pgstage/conf/connstr.h \
	src/conf/host.c include/pgstage/conf/host.h \
	src/conf/users.c include/pgstage/conf/users.h \
	src/conf/ldap.c include/pgstage/conf/ldap.h \
	src/conf/layer.c \
	src/conf/source.c \
	src/conf/build.c \
	src/conf/resolve.c \
	src/conf/validate.c \
	src/conf/certificate.c \
	src/conf/inventory.c include/pgstage/conf/certificate.h \
	src/conf/fit.c \
	src/conf/fit_failover.c \
	src/conf/floor.c \
	src/conf/hba.c include/pgstage/conf/hba.h \
	src/conf/hba_inside.h src/conf/hba_words.c src/conf/hba_check.c \
	src/conf/ident.c \
	src/conf/inquiry_check.c \
	src/conf/outside_check.c \
	src/conf/guard.c \
	src/conf/rule.c include/pgstage/conf/rule.h \
	src/conf/snapshot.c include/pgstage/conf/snapshot.h \
	src/conf/effective.c \
	src/conf/show.c include/pgstage/conf/show.h \
	src/conf/explain.c \
	src/conf/print.c include/pgstage/conf/print.h
EXTRA_DIST += conf/pgstage.ini conf/userlist.txt
# A file for each class, to be copied from.
environmentsdir = $(docdir)/environments
dist_environments_DATA = \
	conf/environments/local_development.ini \
	conf/environments/feature_branch.ini \
	conf/environments/review_apps.ini \
	conf/environments/shared_development.ini \
	conf/environments/integration_testing.ini \
	conf/environments/system_testing.ini \
	conf/environments/user_acceptance.ini \
	conf/environments/load_testing.ini \
	conf/environments/staging.ini \
	conf/environments/pre_production.ini \
	conf/environments/production.ini \
	conf/environments/disaster_recovery.ini
dist_doc_DATA += doc/access.md doc/configuration.md doc/guide.md doc/production.md doc/reference-options.md

# The guide's commands, run. Needs PostgreSQL, as the system tests do.
EXTRA_DIST += scripts/check-guide
check-guide: pgstage$(EXEEXT)
	PGSTAGE="$(abs_builddir)/pgstage$(EXEEXT)" $(top_srcdir)/scripts/check-guide
.PHONY: check-guide
