# conf: what `make install` puts beside the program: systemd units, and a first configuration where
# there is none yet. What an administrator has changed is never touched, by uninstall neither.
EXTRA_DIST += conf/systemd/pgstage.service.in
CLEANFILES += conf/systemd/pgstage.service
nodist_systemdsystemunit_DATA = conf/systemd/pgstage.service
dist_systemdsystemunit_DATA = conf/systemd/pgstage.socket
dist_man_MANS += doc/pgstage.1 doc/pgstage.ini.5

conf/systemd/pgstage.service: conf/systemd/pgstage.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) conf/systemd && \
	$(SED) -e 's|@bindir[@]|$(bindir)|g' -e 's|@sysconfdir[@]|$(sysconfdir)|g' \
		$(top_srcdir)/conf/systemd/pgstage.service.in >$@

install-data-local:
	$(MKDIR_P) "$(DESTDIR)$(sysconfdir)/pgstage"
	@for file in pgstage.ini userlist.txt; do \
		target="$(DESTDIR)$(sysconfdir)/pgstage/$$file"; \
		if test -e "$$target"; then \
			echo "$$target is there already and stays as it is"; \
		else \
			mode=644; test $$file = pgstage.ini || mode=640; \
			echo "$(INSTALL) -m $$mode $(top_srcdir)/conf/$$file $$target"; \
			$(INSTALL) -m $$mode "$(top_srcdir)/conf/$$file" "$$target" || exit 1; \
		fi; \
	done

uninstall-local:
	@for file in pgstage.ini userlist.txt; do \
		target="$(DESTDIR)$(sysconfdir)/pgstage/$$file"; \
		if cmp -s "$(top_srcdir)/conf/$$file" "$$target"; then rm -f "$$target"; fi; \
	done
	@rmdir "$(DESTDIR)$(sysconfdir)/pgstage" 2>/dev/null || :
