<?php
// Whom it knows: the gateway under test, and others of its kind, whose answers it must not take.
$own = json_decode(file_get_contents(getenv('ROWGATE_IDP_DIR') . '/services.json'), true);
foreach ($own as $entity => $of) {
    $metadata[$entity] = $of;
}
