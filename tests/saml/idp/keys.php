<?php
// The provider's key and certificate: `php keys.php FOLDER`.
$key = openssl_pkey_new(['private_key_bits' => 2048, 'private_key_type' => OPENSSL_KEYTYPE_RSA]);
$request = openssl_csr_new(['commonName' => 'idp.example'], $key, ['digest_alg' => 'sha256']);
$certificate = openssl_csr_sign($request, null, $key, 2, ['digest_alg' => 'sha256']);
openssl_pkey_export_to_file($key, "$argv[1]/idp.key");
openssl_x509_export_to_file($certificate, "$argv[1]/idp.crt");
