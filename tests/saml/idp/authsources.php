<?php
// Who can sign in.
$config = [
    'people' => [
        'exampleauth:UserPass',
        'ann:ann-s password' => [
            'uid' => ['ann'],
            'mail' => ['ann@example.org'],
            'displayName' => ['Ann "the <first>" & only'],
            'groups' => ['analysts', 'approvers'],
        ],
        'bob:bob-s password' => [
            'uid' => ['bob'],
            'mail' => ['bob@example.org'],
            'groups' => ['interns'],
        ],
    ],
];
