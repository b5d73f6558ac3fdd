-- The queue's role and database. No password: whoever reaches the socket file is a container of this gateway.
CREATE ROLE orthanc LOGIN;
CREATE DATABASE orthanc OWNER orthanc ENCODING 'UTF8' TEMPLATE template0;
