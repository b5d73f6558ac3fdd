-- Orthanc's own role and database. The password comes from a file, so that it stands in no statement's text or argument.
\set password `cat /etc/database/orthanc-password`
CREATE ROLE "orthanc" LOGIN PASSWORD :'password';
CREATE DATABASE "orthanc" OWNER "orthanc" ENCODING 'UTF8' TEMPLATE template0;
