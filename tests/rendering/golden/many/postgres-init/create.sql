-- Orthanc's own role and database. The password comes from a file, so that it stands in no statement's text or argument.
\set password `cat /etc/database/orthanc-password`
CREATE ROLE "keeper" LOGIN PASSWORD :'password';
CREATE DATABASE "images" OWNER "keeper" ENCODING 'UTF8' TEMPLATE template0;
