-- Orthanc calls this before each request to its REST interface: only the service may change or delete; others read.
-- Reading by POST: the queries of Orthanc's own pages.
function IncomingHttpRequestFilter(method, uri, ip, username, httpHeaders)
   return username == 'segmentation'
      or method == 'GET'
      or (method == 'POST' and (uri == '/tools/find' or uri == '/tools/lookup'))
end
