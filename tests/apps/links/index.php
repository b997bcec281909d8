<?php
// A PHP page that calls with curl, several at once with curl_multi; knows nothing of tracing.
// The plan in a request's query is explained in plan.py.

declare(strict_types=1);

function check(CurlHandle $call): void
{
    if (curl_getinfo($call, CURLINFO_RESPONSE_CODE) !== 200) {
        $url = curl_getinfo($call, CURLINFO_EFFECTIVE_URL);
        throw new RuntimeException("$url failed: " . curl_error($call));
    }
}

function together(array $urls): void
{
    $all = curl_multi_init();
    $calls = [];
    foreach ($urls as $url) {
        $call = curl_init($url);
        curl_setopt($call, CURLOPT_RETURNTRANSFER, true);
        curl_multi_add_handle($all, $call);
        $calls[] = $call;
    }
    do {
        curl_multi_exec($all, $running);
        if ($running > 0) {
            curl_multi_select($all);
        }
    } while ($running > 0);
    // Tells each handle how it ended.
    while (curl_multi_info_read($all)) {
    }
    array_map('check', $calls);
}

$tag = explode('/', parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH))[2];
$plan = substr($_SERVER['QUERY_STRING'], strlen('plan='));
$made = 0;
// One handle: its connection is kept from call to call.
$handle = curl_init();
curl_setopt($handle, CURLOPT_RETURNTRANSFER, true);
foreach (array_filter(explode('.', $plan)) as $word) {
    $count = (int) substr($word, 1);
    if ($word[0] === 's') {
        usleep($count * 1000);
        continue;
    }
    $urls = [];
    for ($number = 0; $number < $count; $number++) {
        $urls[] = getenv('LEAF') . "/leaf/$tag/" . $made++;
    }
    if ($word[0] === 'p') {
        together($urls);
        continue;
    }
    foreach ($urls as $url) {
        curl_setopt($handle, CURLOPT_URL, $url);
        curl_exec($handle);
        check($handle);
    }
}
header('Content-Type: text/plain');
echo "done\n";
