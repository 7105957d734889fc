#!/bin/sh
# Makes the authority of a cluster in this folder (ca.pem, ca.key) unless it is here, and for each name that is
# given a key and a certificate of that authority: sh make-keys.sh scheduler me worker-1 worker-2
set -eu
umask 077
key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
if [ ! -e ca.key ]; then
    # shellcheck disable=SC2086
    openssl req -x509 $key -keyout ca.key -out ca.pem -days 730 -subj "/CN=agents of $(id -un)" \
        -addext "keyUsage=critical,keyCertSign"
fi
cat > name.ext <<'END'
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth,clientAuth
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
END
for name in "$@"; do
    # shellcheck disable=SC2086
    openssl req $key -keyout "$name.key" -out "$name.csr" -subj "/CN=$name"
    openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -out "$name.pem" \
        -extfile name.ext
    rm "$name.csr"
done
rm name.ext
