# docker: the image, and what is tried of it without Docker
EXTRA_DIST += docker/Dockerfile docker/build.sh docker/health docker/make-secrets \
	docker/compose.development.yml docker/compose.staging.yml docker/compose.production.yml \
	docker/development.ini docker/staging.ini docker/production.ini docker/pg_hba.tls.conf
EXTRA_DIST += scripts/fuzz scripts/install-packages scripts/quickstart scripts/test bootstrap
