/* Debian's civetweb 1.16 asks OpenSSL 3 for a function by its OpenSSL 1 name and jumps to address 0 at the first HTTPS
   request (civetweb issue 1334). This is that function, under its old name, in front of the real library. */
void *SSL_get1_peer_certificate(const void *);
void *SSL_get_peer_certificate(const void *ssl) { return SSL_get1_peer_certificate(ssl); }
