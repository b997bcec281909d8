<?php
// A page that answers as its path asks it to; knows nothing of tracing.

declare(strict_types=1);

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$words = explode('/', trim($path, '/'));
header('Content-Type: text/plain');
switch ($words[0]) {
    case 'status':
        http_response_code((int) $words[1]);
        echo "status\n";
        break;
    case 'echo':
        readfile('php://input');
        break;
    case 'large':
        for ($block = 0; $block < 64; $block++) {
            echo str_repeat('x', 65536);
        }
        break;
    case 'warn':
        file_put_contents('php://stderr', "for the log\n");
        error_log('for the log of the web server');
        echo "warned\n";
        break;
    case 'call':
        $call = curl_init($_GET['url']);
        curl_setopt($call, CURLOPT_RETURNTRANSFER, true);
        echo curl_exec($call);
        break;
    case 'die':
        // Half of the answer is on its way then.
        echo str_repeat('x', 100000);
        while (ob_get_level() > 0) {
            ob_end_flush();
        }
        flush();
        posix_kill(posix_getpid(), 9);
        break;
    case 'mute':
        posix_kill(posix_getpid(), 9);
        break;
    default:
        echo "hello\n";
}
